"""Make batches of windows: features, token numbers, and what is to be predicted."""

from __future__ import annotations

from random import Random
from typing import NamedTuple

import torch
from tokenizers import Tokenizer
from torch.nn.utils.rnn import pad_sequence

from .hearing import hear, make_noises
from .pool import Pool
from .tokens import Vocabulary
from .windows import Window, arrange
from .writing import Target, Writer


class Batch(NamedTuple):
    """Normalised features (batch, 80, frames), encoder offsets, decoder tokens and targets.

    ``targets`` and ``weights`` belong to the token after that of the same place in ``ids``.
    """

    features: torch.Tensor
    offsets: torch.Tensor
    ids: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    #: First and last encoder position where a target is heard: (batch, length, 2), or -1.
    spans: torch.Tensor
    #: The numbers of the phonemes of each window; none where they are not known.
    phonemes: list[torch.Tensor]


def _positions(target: Target) -> tuple[int, int]:
    return (target.heard[0] // 2, target.heard[1] // 2) if target.heard else (-1, -1)


class Source:
    """Makes batches of windows without end."""

    def __init__(self, pool: Pool, tokenizer: Tokenizer, vocabulary: Vocabulary, seed: int) -> None:
        self._pool, self._vocabulary = pool, vocabulary
        self._writer = Writer(tokenizer)
        self._noises = make_noises(seed)
        self._rng = Random(seed)
        symbols = sorted({symbol for utterance in pool for symbol in utterance.phonemes})
        #: Numbers of the phonemes, from 1; 0 is CTC's blank.
        self.phonemes = {symbol: number for number, symbol in enumerate(symbols, start=1)}

    def _said(self, window: Window) -> torch.Tensor:
        said = "" if window.cut else "".join(p.utterance.phonemes for p in window.placed)
        return torch.tensor([self.phonemes[symbol] for symbol in said], dtype=torch.long)

    def batch(self, count: int, frames: int) -> Batch:
        """Make a batch of ``count`` windows of ``frames`` frames each."""
        windows = [arrange(self._rng, self._pool, frames) for _ in range(count)]
        rows = [self._writer.write(self._rng, window) for window in windows]
        numbers = [torch.tensor([self._vocabulary.number(t.token) for t in row]) for row in rows]
        weights = [torch.tensor([target.weight for target in row]) for row in rows]
        spans = [torch.tensor([_positions(target) for target in row]) for row in rows]
        ids, counts = pad_sequence(numbers, True), pad_sequence(weights, True)
        return Batch(
            features=hear(self._rng, self._pool, self._noises, windows),
            offsets=torch.tensor([window.offset // 2 for window in windows]),
            ids=ids[:, :-1],
            targets=ids[:, 1:],
            weights=counts[:, 1:],
            spans=pad_sequence(spans, True, -1)[:, 1:],
            phonemes=[self._said(window) for window in windows],
        )
