"""One decoder row: what it was given, and what it writes token by token."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mlxsrv.engines.whisper.rules import Rules

Floats = NDArray[np.float32]

BLOCK = 256


class Row:
    """A candidate text of a window.

    `prompt` ends with what opens a transcript, whose first token is at `start`. With
    `listens`, it is given in two parts, because after that first token the model says how
    likely there is no speech at all.
    """

    def __init__(
        self,
        rules: Rules,
        prompt: Sequence[int],
        start: int,
        *,
        most: int,
        temperature: float = 0.0,
        seed: Sequence[int] = (),
        listens: bool = False,
    ) -> None:
        """At most `most` tokens are written."""
        split = start + 1 if listens else len(prompt)
        self.tokens = list(prompt[:split])
        self.written: list[int] = []
        self.finished = False
        self.no_speech: float | None = None
        self._rest = list(prompt[split:])
        self._listens = listens
        self._rules = rules
        self._most = most
        self._temperature = temperature
        self._random = np.random.default_rng(seed) if temperature else None
        self._sum = 0.0

    @property
    def logprob(self) -> float:
        """The mean log probability of what was written, its end included."""
        return self._sum / (len(self.written) + 1)

    @property
    def score(self) -> float:
        """By which candidates are compared."""
        return self._sum / max(1, len(self.written))

    def accept(self, logits: Floats) -> list[int]:
        """Takes what the model says after the last token; gives those to feed it next."""
        following: list[int] = []
        if self._listens:
            self._listens = False
            self.no_speech = float(softmax(logits)[self._rules.special.no_speech])
            following = self._rest
        if not following:
            following = self._write(logits)
        self.tokens += following
        return following

    def _write(self, logits: Floats) -> list[int]:
        allowed = self._rules.apply(logits, self.written)
        likeliest = int(allowed.argmax())
        token = likeliest if self._random is None else self._draw(allowed, likeliest)
        shifted = allowed - allowed[likeliest]
        self._sum += float(shifted[token] - np.log(np.exp(shifted).sum()))
        if token == self._rules.special.end:
            self.finished = True
            return []
        self.written.append(token)
        self.finished = len(self.written) >= self._most
        return [] if self.finished else [token]

    def _draw(self, allowed: Floats, likeliest: int) -> int:
        assert self._random is not None
        chances = np.exp((allowed - allowed[likeliest]) / np.float32(self._temperature))
        return draw(chances, self._random.random())


class LanguageRow:
    """Asks the model which language it hears."""

    def __init__(self, rules: Rules) -> None:
        self.tokens = [rules.special.start]
        self.finished = False
        self.language = ""
        self._languages = rules.special.languages

    def accept(self, logits: Floats) -> list[int]:
        self.language = max(self._languages, key=lambda code: logits[self._languages[code]])
        self.finished = True
        return []


def draw(chances: Floats, point: float) -> int:
    """The place that `point`, from 0 to 1, falls on when the chances lie end to end.

    First the block it falls into, then the place there: adding them all up one by one is slow.
    """
    blocks = np.cumsum(np.add.reduceat(chances, np.arange(0, len(chances), BLOCK)), dtype=float)
    wanted = point * blocks[-1]
    block = int(np.searchsorted(blocks, wanted, side="right"))
    begin = block * BLOCK
    inside = np.cumsum(chances[begin : begin + BLOCK], dtype=float)
    rest = wanted - (blocks[block - 1] if block else 0.0)
    place = int(np.searchsorted(inside, min(rest, np.nextafter(inside[-1], 0)), side="right"))
    return begin + place


def softmax(logits: Floats) -> Floats:
    shifted = np.exp(logits - logits.max())
    chances: Floats = shifted / shifted.sum()
    return chances
