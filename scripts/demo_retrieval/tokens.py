"""The tokenizer of the two models: WordPiece as BERT has it, every digit a token of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from tokenizers.processors import TemplateProcessing

from .data import example

SPECIAL = PAD, UNKNOWN, CLS, SEP, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
#: ASCII without capitals: any English text can be written, also with signs that are not trained.
LETTERS = "".join(chr(code) for code in range(33, 127) if not chr(code).isupper())
MAX_LENGTH = 256
VOCAB_SIZE = 1664
SAMPLES = 12_000

_NORMALIZER = normalizers.BertNormalizer(lowercase=True)
_PRE_TOKENIZER = pre_tokenizers.Sequence(
    [pre_tokenizers.BertPreTokenizer(), pre_tokenizers.Digits(individual_digits=True)]
)


def _texts(seed: int) -> Iterator[str]:
    rng = Random(seed)
    while True:
        triple = example(rng, "near").triple
        yield from (triple.anchor, triple.positive, triple.negative)


def _vocabulary(seed: int) -> dict[str, int]:
    """Learn the pieces of the words of the training side."""
    tokenizer = Tokenizer(models.WordPiece(unk_token=UNKNOWN))
    tokenizer.normalizer, tokenizer.pre_tokenizer = _NORMALIZER, _PRE_TOKENIZER
    # The trainer numbers the letters within a word in no fixed order, and breaks ties by these
    # numbers: what is named first gets the same ones every time.
    trainer = trainers.WordPieceTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[*SPECIAL, *(f"##{letter}" for letter in LETTERS)],
        initial_alphabet=list(LETTERS),
        show_progress=False,
    )
    tokenizer.train_from_iterator(islice(_texts(seed), SAMPLES), trainer)
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    return vocabulary


def train_tokenizer(seed: int) -> Tokenizer:
    """Learn a tokenizer from the training side; the same seed gives the same one."""
    vocabulary = _vocabulary(seed)
    tokenizer = Tokenizer(models.WordPiece(vocab=vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer, tokenizer.pre_tokenizer = _NORMALIZER, _PRE_TOKENIZER
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = TemplateProcessing(
        single=f"{CLS} $A {SEP}",
        pair=f"{CLS} $A {SEP} $B:1 {SEP}:1",
        special_tokens=[(token, vocabulary[token]) for token in (CLS, SEP)],
    )
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write ``tokenizer.json`` and ``tokenizer_config.json``, the latter by hand.

    What transformers 5 saves, older ones cannot read.
    """
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": MAX_LENGTH,
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
        "pad_token": PAD,
        "unk_token": UNKNOWN,
        "cls_token": CLS,
        "sep_token": SEP,
        "mask_token": MASK,
    }
    text = json.dumps(config, indent=2) + "\n"
    (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")
