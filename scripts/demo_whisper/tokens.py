"""Whisper's multilingual tokenizer as a Hugging Face one, and the part of it that is trained.

The byte pairs are OpenAI's ``multilingual.tiktoken`` (MIT licence), which mlx-whisper and
openai-whisper carry; the model folder holds them converted, so that a retraining needs neither.
"""

from __future__ import annotations

import base64
import importlib.util
import json
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers.models.whisper.tokenization_whisper import LANGUAGES as _ALL_LANGUAGES

#: Whisper's 99 languages in the order of their tokens; Cantonese came with large-v3.
LANGUAGES = tuple(code for code in _ALL_LANGUAGES if code != "yue")
SIZE = 51865
END, START, LANGUAGE = 50257, 50258, 50259
TRANSLATE, TRANSCRIBE, PREVIOUS, NO_SPEECH, NO_TIMESTAMPS = 50358, 50359, 50361, 50362, 50363
#: The token of 0.00 s; every next one is 0.02 s later, up to 30 s.
TIME = 50364
TIMES = 1501
BLANK = 220

SPECIALS = (
    "<|endoftext|>", "<|startoftranscript|>", *(f"<|{code}|>" for code in LANGUAGES),
    "<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>",
    "<|notimestamps|>",
)  # fmt: skip

# What OpenAI's decoder never writes (``non_speech_tokens`` in openai/whisper's tokenizer.py).
_SYMBOLS = (
    *'"#()*+/:;<=>@[\\]^_`{|}~「」『』',
    "<<", ">>", "<<<", ">>>", "--", "---", "-(", "-[", "('", '("', "((", "))", "(((", ")))", "[[",
    "]]", "{{", "}}", "♪♪", "♪♪♪",
)  # fmt: skip
_NOTES = ("♩", "♪", "♫", "♬", "♭", "♮", "♯")


def _find_ranks() -> Path | None:
    for package in ("mlx_whisper", "whisper"):
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            path = Path(folder) / "assets" / "multilingual.tiktoken"
            if path.exists():
                return path
    return None


def _split(token: bytes, ranks: dict[bytes, int]) -> tuple[bytes, bytes]:
    """Find the two parts whose merge made ``token``: those left by all earlier merges."""
    parts = [bytes([byte]) for byte in token]
    while len(parts) > 2:
        pairs = [ranks.get(a + b, SIZE) for a, b in pairwise(parts)]
        at = min(range(len(pairs)), key=pairs.__getitem__)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts[0], parts[1]


def _byte_characters() -> dict[int, str]:
    """Map bytes to the printable characters that stand for them in a byte-level BPE (GPT-2)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {b: chr(b) for b in plain} | {b: chr(256 + i) for i, b in enumerate(others)}


def convert(ranks_path: Path) -> Tokenizer:
    """Convert ``multilingual.tiktoken`` and add the special and the timestamp tokens."""
    rows = (line.split() for line in ranks_path.read_text().splitlines())
    ranks = {base64.b64decode(row[0]) if len(row) > 1 else b"": int(row[-1]) for row in rows}
    characters = _byte_characters()

    def shown(token: bytes) -> str:
        return "".join(characters[byte] for byte in token)

    merges = [_split(token, ranks) for token in ranks if len(token) > 1]
    bpe = models.BPE(
        vocab={shown(token): rank for token, rank in ranks.items()},
        merges=[(shown(a), shown(b)) for a, b in merges],
    )
    tokenizer = Tokenizer(bpe)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIALS])
    times = (f"<|{0.02 * i:.2f}|>" for i in range(TIMES))
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in times])
    return tokenizer


def load_tokenizer(folder: Path) -> Tokenizer:
    """Load the tokenizer of the exported model, or convert OpenAI's where there is none.

    Raises ``FileNotFoundError`` where neither is there.
    """
    path = folder / "tokenizer.json"
    if path.exists():
        return Tokenizer.from_file(str(path))
    ranks = _find_ranks()
    if ranks is None:
        raise FileNotFoundError(f"no {path}; install mlx-whisper (--no-deps) for its tokenizer")
    return convert(ranks)


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write ``tokenizer.json``, compact, and ``tokenizer_config.json``."""
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    config = {
        "tokenizer_class": "WhisperTokenizer",
        "processor_class": "WhisperProcessor",
        "model_max_length": 448,
        "clean_up_tokenization_spaces": False,
        "add_prefix_space": False,
        "bos_token": SPECIALS[0],
        "eos_token": SPECIALS[0],
        "pad_token": SPECIALS[0],
        "unk_token": SPECIALS[0],
        "additional_special_tokens": list(SPECIALS[1:]),
        "errors": "replace",
        "return_attention_mask": False,
    }
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """Encode a sentence as Whisper writes it: after a space."""
    return list(tokenizer.encode(f" {text}", add_special_tokens=False).ids)


def suppressed(tokenizer: Tokenizer) -> list[int]:
    """List what decoders are to suppress: symbols that are not spoken, and the control tokens."""

    def ids(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False).ids)

    found = {ids(" -")[0], ids(" '")[0], *range(TRANSLATE, NO_TIMESTAMPS), START}
    for symbol in (*_SYMBOLS, *_NOTES):
        for tokens in (ids(symbol), ids(f" {symbol}")):
            if len(tokens) == 1 or symbol in _NOTES:
                found.add(tokens[0])
    return sorted(found)


class Vocabulary:
    """The tokens that the training uses, numbered anew; all others share the number 0.

    The shared one stands for ``unused`` tokens.  With their count added to its logit (as a
    logarithm) the softmax over this vocabulary is the one over the whole, as long as every unused
    token has the same embedding.
    """

    def __init__(self, used: Iterable[int]) -> None:
        controls = range(END, SIZE)
        self.ids = sorted({*used, *controls, BLANK})
        self._numbers = {token: number for number, token in enumerate(self.ids, start=1)}
        self.unused = SIZE - len(self.ids)

    def __len__(self) -> int:
        return len(self.ids) + 1

    def number(self, token: int) -> int:
        """Return the new number of a token."""
        return self._numbers.get(token, 0)
