"""The batch on MLX: sequences that are prefilled together, and sequences that decode together.

Decoding runs one step ahead: while the caller handles one step's tokens, the device computes the
next. So whatever depends on the last token (penalties) is computed from lazy arrays.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models.cache import make_prompt_cache

from mlxsrv.backends.mlx.lora import Adapters
from mlxsrv.backends.mlx.sampling import Chooser, Picked, choose
from mlxsrv.core.text import Sequence as TextSequence

Caches = list[Any]
"""One cache per layer: `mlx_lm.models.cache`'s batch caches, or those of one sequence."""

STEPS_BETWEEN_CLEARINGS = 512


@dataclass(slots=True)
class Row:
    """A sequence in the batch: its tokens so far, and how many of them are in the cache."""

    sequence: TextSequence
    tokens: list[int]
    generated: int
    chooser: Chooser
    caches: Caches | None = None
    cached: int = 0
    error: Exception | None = field(default=None)

    @property
    def prefill_left(self) -> int:
        """The last token of the prompt is left to the first decoding step."""
        return len(self.tokens) - 1 - self.cached


class PrefillGroup:
    """Prompts that are fed together, chunk by chunk, padded on the right."""

    def __init__(self, model: nn.Module, adapters: Adapters, rows: list[Row]) -> None:
        self._model = model
        self._adapters = adapters
        self.rows = rows
        each = [row.caches or make_prompt_cache(model) for row in rows]
        for row in rows:
            row.caches = None
        self._caches: Caches = merged(each)

    def advance(self, chunk: int) -> int:
        """Feeds at most `chunk` tokens of each prompt. Returns how many were fed in all."""
        parts = [row.tokens[row.cached : -1][:chunk] for row in self.rows]
        lengths = [len(part) for part in parts]
        width = max(lengths)
        if width == 0:
            return 0
        padding = [width - length for length in lengths]
        if any(padding):
            for cache in self._caches:
                cache.prepare(lengths=lengths, right_padding=padding)
        padded = [[*part, *[0] * pad] for part, pad in zip(parts, padding, strict=True)]
        self._adapters.use(adapters_of(self.rows))
        self._model(mx.array(padded), cache=self._caches)
        if any(padding):
            for cache in self._caches:
                cache.finalize()
        mx.eval([cache.state for cache in self._caches])
        mx.clear_cache()
        for row, length in zip(self.rows, lengths, strict=True):
            row.cached += length
        return sum(lengths)

    def take_done(self) -> tuple[list[Row], Caches]:
        """Takes out the rows whose prompts are done, with their caches."""
        done = [place for place, row in enumerate(self.rows) if row.prefill_left == 0]
        left = [place for place, row in enumerate(self.rows) if row.prefill_left > 0]
        if not left:
            rows, caches = self.rows, self._caches
            self.rows, self._caches = [], []
            return rows, caches
        if not done:
            return [], []
        taken = copy.deepcopy(self._caches)
        for cache in taken:
            cache.filter(done)
        rows = [self.rows[place] for place in done]
        self._filter(left)
        return rows, taken

    def remove(self, uids: set[int]) -> None:
        keep = [i for i, row in enumerate(self.rows) if row.sequence.uid not in uids]
        if len(keep) < len(self.rows):
            self._filter(keep)

    def _filter(self, places: list[int]) -> None:
        self.rows = [self.rows[place] for place in places]
        if not places:
            self._caches = []
        for cache in self._caches:
            cache.filter(places)


class DecodeGroup:
    """Rows that decode together, each padded to the longest of them."""

    def __init__(self, model: nn.Module, adapters: Adapters) -> None:
        self._model = model
        self._adapters = adapters
        self.rows: list[Row] = []
        self._caches: Caches = []
        self._inputs: mx.array | None = None
        self._picked = Picked()
        self._fresh = 0
        self._steps = 0

    def join(self, rows: list[Row], caches: Caches) -> None:
        """Adds rows whose prompts are in their caches but for the last token."""
        last = mx.array([row.tokens[-1] for row in rows])
        if self._inputs is None:
            self._inputs, self._caches = last, caches
        else:
            self._inputs = mx.concatenate([self._inputs, last])
            for own, other in zip(self._caches, caches, strict=True):
                own.extend(other)
        self.rows.extend(rows)
        self._fresh += len(rows)

    def padding_with(self, rows: list[Row], caches: Caches) -> tuple[int, int]:
        """Bytes of (padding, tokens) in this group's caches if `rows` joined it."""
        lengths = [len(row.tokens) for row in (*self.rows, *rows)]
        own = len(rows) * max(len(row.tokens) for row in rows)
        per_token = sum(cache.nbytes for cache in caches) / own
        padded = max(lengths) * len(lengths)
        return int((padded - sum(lengths)) * per_token), int(sum(lengths) * per_token)

    def step(self) -> tuple[list[Row], list[int], Picked]:
        """Starts the next step and hands out the last one's tokens.

        Returns the rows that have a new token, the tokens, and their log probabilities.
        """
        if self._inputs is None:
            return [], [], Picked()
        inputs, picked = self._inputs, self._picked
        speaking = len(self.rows) - self._fresh
        self._adapters.use(adapters_of(self.rows))
        logits = self._model(inputs[:, None], cache=self._caches)[:, -1]
        for place, row in enumerate(self.rows):
            self._edit(row, logits, inputs, place, speaks=place < speaking)
        self._inputs, self._picked = choose(logits, [row.chooser for row in self.rows])
        mx.async_eval(self._inputs, self._picked.arrays())
        self._fresh = 0
        self._steps += 1
        if self._steps % STEPS_BETWEEN_CLEARINGS == 0:
            mx.clear_cache()
        tokens: list[int] = inputs.tolist()
        for row, token in zip(self.rows[:speaking], tokens, strict=False):
            row.tokens.append(token)
            row.generated += 1
        return self.rows[:speaking], tokens[:speaking], picked

    def _edit(
        self, row: Row, logits: mx.array, inputs: mx.array, place: int, *, speaks: bool
    ) -> None:
        """Penalties and bias of one row; a failure there is that row's own."""
        if not row.sequence.sampling.edits_logits or row.error is not None:
            return
        try:
            if speaks:
                row.chooser.took(inputs[place])
            logits[place] = row.chooser.edited(logits[place])
        except Exception as error:
            row.error = error

    def caches_of(self, place: int) -> Caches:
        """A copy of one row's caches, which hold all of its tokens."""
        return [cache.extract(place) for cache in self._caches]

    def remove(self, uids: set[int]) -> None:
        keep = [i for i, row in enumerate(self.rows) if row.sequence.uid not in uids]
        if len(keep) == len(self.rows):
            return
        speaking = len(self.rows) - self._fresh
        self.rows = [self.rows[place] for place in keep]
        self._fresh = sum(place >= speaking for place in keep)
        if not keep:
            self._inputs, self._caches, self._picked = None, [], Picked()
            return
        assert self._inputs is not None
        kept = mx.array(keep)
        self._inputs = self._inputs[kept]
        for cache in self._caches:
            cache.filter(keep)
        self._picked = self._picked.only(keep)


def adapters_of(rows: Sequence[Row]) -> list[str | None]:
    return [row.sequence.adapter for row in rows]


def merged(each: Sequence[Caches]) -> Caches:
    """The caches of some sequences as those of one batch. The arrays given are only read."""
    return [layer[0].merge(list(layer)) for layer in zip(*each, strict=True)]
