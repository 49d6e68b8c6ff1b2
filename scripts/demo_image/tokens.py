"""The two tokenizers, CLIP's and T5's, with the few words that the model knows whole.

Other words fall apart into letters (T5) or bytes (CLIP), so that any text can be read.
"""

from __future__ import annotations

import json
import string
from collections import Counter
from random import Random

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer, T5TokenizerFast

from .prompts import describe
from .scenes import draw_scene

#: Tokens to a prompt, of both encoders, padding included.
LENGTH = 32
_START, _END = "<|startoftext|>", "<|endoftext|>"
_SAMPLES = 20_000
#: Words are preferred to letters, and letters that are known to none.
_WORD, _LETTER = -4.0, -12.0


def known_words(seed: int = 0) -> list[str]:
    """List the words of the prompts, the frequent ones first, without signs."""
    rng, counts = Random(seed), Counter[str]()
    for _ in range(_SAMPLES):
        counts.update(describe(rng, draw_scene(rng, 0.2)).replace("-", " ").split())
    words: dict[str, None] = {}
    for word, _ in counts.most_common():
        words[word.strip(string.punctuation).lower()] = None
    return list(words)


def make_clip(words: list[str]) -> CLIPTokenizer:
    """Make CLIP's tokenizer: bytes and merges that spell the words."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=4000,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(words, trainer)
    merges: list[tuple[str, str]] = json.loads(tokenizer.to_str())["model"]["merges"]
    merges = [(left, right) for left, right in merges]
    pieces = [*sorted(alphabet), *(f"{sign}</w>" for sign in sorted(alphabet))]
    pieces += ["".join(merge) for merge in merges]
    vocab = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    vocab[_START], vocab[_END] = len(vocab), len(vocab) + 1
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=LENGTH)


def make_t5(words: list[str]) -> T5TokenizerFast:
    """Make T5's tokenizer: words, also with a capital, and printable ASCII letters."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -20.0), ("\u2581", -6.0)]
    whole = dict.fromkeys([*words, *(word.capitalize() for word in words)])
    pieces += [(f"\u2581{word}", _WORD) for word in whole]
    pieces += [(word, _WORD) for word in words if len(word) > 1]  # after a hyphen
    pieces += [(sign, _LETTER) for sign in string.printable.split()[0]]
    return T5TokenizerFast(vocab=pieces, extra_ids=0, model_max_length=LENGTH)
