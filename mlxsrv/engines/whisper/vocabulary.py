"""Whisper's tokens: text in byte pairs, and behind it those that steer it.

The steering ones lie in one fixed order: end of text, start of transcript, languages, tasks and
markers, then a time stamp for every 20 ms of a window.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlxsrv.backends.builtin import builtin_folder
from mlxsrv.backends.jsonfile import read_optional
from mlxsrv.core.errors import LoadError
from mlxsrv.core.languages import LANGUAGES
from mlxsrv.engines.tokenizer import byte_of_character

MULTILINGUAL_SIZE = 51_865
"""Tokens of the first multilingual models; each later one knows a language more."""

SECONDS_PER_STAMP = 0.02

_SYMBOLS = (
    '"#()*+/:;<=>@[\\]^_`{|}~「」『』',
    "<< >> <<< >>> -- --- -( -[ (' (\" (( )) ((( ))) [[ ]] {{ }} ♪♪ ♪♪♪",
)
_NOTES = "♩♪♫♬♭♮♯"


@dataclass(frozen=True, slots=True)
class Special:
    """The ids of the tokens that steer the model. `languages` by code; empty: English only."""

    end: int
    start: int
    translate: int
    transcribe: int
    previous: int
    no_speech: int
    no_stamps: int
    languages: dict[str, int]
    suppressed: frozenset[int]

    @property
    def first_stamp(self) -> int:
        return self.no_stamps + 1


class Vocabulary:
    """Text to tokens and back. `suppressed` are never written: they are no speech."""

    def __init__(
        self,
        model: Any,
        special: Special,
        suppressed: frozenset[int] | None = None,
        blank: frozenset[int] | None = None,
    ) -> None:
        """`model` is a byte-level tokenizer that knows text alone."""
        self._model = model
        self._bytes: dict[int, bytes] = {}
        self.special = special
        if suppressed is None:
            suppressed = self._non_speech()
        self.suppressed = suppressed | special.suppressed
        self.blank = frozenset({*self.encode(" "), special.end}) if blank is None else blank

    @property
    def multilingual(self) -> bool:
        return bool(self.special.languages)

    def opening(self, language: str, *, translate: bool = False) -> tuple[int, ...]:
        """What a transcript in this language begins with."""
        special = self.special
        if not self.multilingual:
            return (special.start,)
        task = special.translate if translate else special.transcribe
        return special.start, special.languages[language], task

    def encode(self, text: str) -> list[int]:
        """Tokens of plain text: names of special tokens in it mean nothing."""
        ids: list[int] = self._model.encode(text, add_special_tokens=False).ids
        return ids

    def piece(self, token: int) -> bytes:
        """What a token writes; nothing, where it steers."""
        if token not in self._bytes:
            text = self._model.id_to_token(token) if token < self.special.end else None
            characters = text or ""
            self._bytes[token] = bytes(_BYTES[c] for c in characters if c in _BYTES)
        return self._bytes[token]

    def text(self, tokens: Sequence[int]) -> str:
        """With U+FFFD where they break a character."""
        return b"".join(map(self.piece, tokens)).decode("utf-8", "replace")

    def _non_speech(self) -> frozenset[int]:
        """Tokens of speaker tags, notes and other signs that nobody speaks.

        Quotes and hyphens are allowed within a word only. Of a musical note the first token is
        enough, since all such signs share their first bytes.
        """
        found = {self.encode(" -")[0], self.encode(" '")[0]}
        for symbol in (*_SYMBOLS[0], *_SYMBOLS[1].split(), *_NOTES):
            for tokens in (self.encode(symbol), self.encode(f" {symbol}")):
                if len(tokens) == 1 or symbol in _NOTES:
                    found.add(tokens[0])
        return frozenset(found)


_BYTES = byte_of_character()


def read_vocabulary(folder: Path, size: int) -> Vocabulary:
    """Of a model with `size` tokens. Raises LoadError.

    mlx-whisper's folders come without a tokenizer; all multilingual models share one, which the
    demo model has.
    """
    generation = read_optional(folder / "generation_config.json")
    file = _tokenizer_file(folder, size)
    try:
        described = json.loads(file.read_text(encoding="utf-8"))
        added = {token["content"]: token["id"] for token in described.pop("added_tokens")}
        model = _text_model(described)
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise LoadError(f"the tokenizer of {folder.name} can't be loaded: {error}") from error
    own = file.parent == folder
    special = _special(folder.name, added, size, generation) if own else _standard(size)
    suppressed, blank = (_ids(generation, key, size) for key in _SUPPRESSED)
    return Vocabulary(model, special, suppressed, blank)


_SUPPRESSED = ("suppress_tokens", "begin_suppress_tokens")


def _tokenizer_file(folder: Path, size: int) -> Path:
    file = folder / "tokenizer.json"
    if file.exists():
        return file
    demo = builtin_folder("demo-whisper")
    if size >= MULTILINGUAL_SIZE and demo is not None:
        return demo / "tokenizer.json"
    known = "whisper-tiny" if size >= MULTILINGUAL_SIZE else "whisper-tiny.en"
    raise LoadError(
        f"{folder.name} has no tokenizer.json: put the one of the model it was made from beside "
        f"its weights, such as https://huggingface.co/openai/{known}/resolve/main/tokenizer.json"
    )


def _text_model(described: dict[str, Any]) -> Any:
    from tokenizers import Tokenizer

    described["added_tokens"] = []
    described["post_processor"] = None
    return Tokenizer.from_str(json.dumps(described))


def _special(name: str, added: dict[str, int], size: int, generation: dict[str, Any]) -> Special:
    """As the folder's own tokenizer has them. Raises LoadError for one that lacks any."""

    def named(*names: str) -> int:
        for one in names:
            if one in added:
                return added[one]
        raise LoadError(f"the tokenizer of {name} has no token {names[0]}")

    multilingual = generation.get("is_multilingual", size >= MULTILINGUAL_SIZE)
    languages = {code: added[f"<|{code}|>"] for code in LANGUAGES if f"<|{code}|>" in added}
    return _checked(
        name,
        size,
        Special(
            end=named("<|endoftext|>"),
            start=named("<|startoftranscript|>"),
            translate=named("<|translate|>"),
            transcribe=named("<|transcribe|>"),
            previous=named("<|startofprev|>"),
            no_speech=named(*_NO_SPEECH),
            no_stamps=named("<|notimestamps|>"),
            languages=languages if multilingual else {},
            suppressed=frozenset({named(*_NO_SPEECH), *map(named, _STEERING)}),
        ),
    )


_NO_SPEECH = ("<|nospeech|>", "<|nocaptions|>")

_STEERING = (
    "<|startoftranscript|>",
    "<|translate|>",
    "<|transcribe|>",
    "<|startoflm|>",
    "<|startofprev|>",
)


def _standard(size: int) -> Special:
    """Of a multilingual model with `size` tokens."""
    end = 50_257
    codes = list(LANGUAGES)[: size - MULTILINGUAL_SIZE + 99]
    first = end + 2 + len(codes)
    translate, transcribe, _, previous, no_speech, no_stamps = range(first, first + 6)
    return Special(
        end=end,
        start=end + 1,
        translate=translate,
        transcribe=transcribe,
        previous=previous,
        no_speech=no_speech,
        no_stamps=no_stamps,
        languages={code: end + 2 + place for place, code in enumerate(codes)},
        suppressed=frozenset({end + 1, *range(first, first + 5)}),
    )


def _checked(name: str, size: int, special: Special) -> Special:
    highest = max(special.first_stamp, special.end, *special.languages.values(), 0)
    if highest >= size:
        raise LoadError(f"the tokenizer of {name} does not belong to its {size} tokens")
    return special


def _ids(generation: dict[str, Any], key: str, size: int) -> frozenset[int] | None:
    found = generation.get(key)
    if not isinstance(found, list) or not all(type(id_) is int for id_ in found):
        return None
    return frozenset(id_ for id_ in found if 0 <= id_ < size)
