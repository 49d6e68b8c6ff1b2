"""Which already computed prompts can be reused. Pure: what is kept is opaque here."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlxsrv.core.text import Kept, Prefix

SHORTEST = 16
"""Fewer tokens than this are computed again faster than they are looked up."""

MOST = 100
"""So many conversations are looked through for each request, and memory settles soon."""

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Entry:
    ids: Ids
    kept: Kept


class PrefixCache:
    """Kept states of one model by the tokens they hold; least recently used go first.

    A state that can be cut serves every prompt that begins like it, as far as they agree; one
    that can't (sliding windows, recurrent layers) serves prompts that begin with all of it.
    What was computed with one LoRA adapter serves that adapter only.
    """

    def __init__(self, budget_bytes: int, max_arrays: int | None = None) -> None:
        self._budget = budget_bytes
        self._max_arrays = max_arrays
        self._entries: OrderedDict[int, _Entry] = OrderedDict()
        self._next_key = 0
        self.nbytes = 0
        self.arrays = 0

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, tokens: Sequence[int], adapter: str | None = None) -> Prefix | None:
        """The longest reusable beginning of `tokens`; at least the last token is left out."""
        ids = np.asarray(tokens, np.int64)
        best_key, best = -1, SHORTEST - 1
        for key, entry in self._entries.items():
            if entry.kept.adapter != adapter:
                continue
            length = min(_common(ids, entry.ids), len(ids) - 1)
            if not entry.kept.can_be_cut and length < len(entry.ids):
                continue
            if length > best:
                best_key, best = key, length
        if best_key < 0:
            return None
        self._entries.move_to_end(best_key)
        return Prefix(self._entries[best_key].kept.state, best)

    def put(self, kept: Kept) -> None:
        """Keeps a state, in place of those that it makes superfluous."""
        ids = np.asarray(kept.tokens, np.int64)
        if len(ids) < SHORTEST or self._exceeds(kept.nbytes, kept.arrays):
            return
        for key, entry in list(self._entries.items()):
            if entry.kept.adapter != kept.adapter:
                continue
            common = _common(ids, entry.ids)
            if common == len(ids) and entry.kept.can_be_cut:
                self._entries.move_to_end(key)
                return
            if common == len(entry.ids) and kept.can_be_cut:
                self._drop(key)
        self._entries[self._next_key] = _Entry(ids, kept)
        self._next_key += 1
        self.nbytes += kept.nbytes
        self.arrays += kept.arrays
        while self._exceeds(self.nbytes, self.arrays) or len(self._entries) > MOST:
            self._drop_oldest()

    def forget(self, adapter: str) -> None:
        """Drops what was computed with an adapter: its name may come to mean another."""
        for key in [k for k, entry in self._entries.items() if entry.kept.adapter == adapter]:
            self._drop(key)

    def reclaim(self, nbytes: int) -> int:
        """Drops the least recently used until so many bytes are free; returns how many are."""
        before = self.nbytes
        while self._entries and before - self.nbytes < nbytes:
            self._drop_oldest()
        return before - self.nbytes

    def _exceeds(self, nbytes: int, arrays: int) -> bool:
        too_many = self._max_arrays is not None and arrays > self._max_arrays
        return nbytes > self._budget or too_many

    def _drop_oldest(self) -> None:
        self._drop(next(iter(self._entries)))

    def _drop(self, key: int) -> None:
        kept = self._entries.pop(key).kept
        self.nbytes -= kept.nbytes
        self.arrays -= kept.arrays


def _common(one: Ids, other: Ids) -> int:
    """How many first tokens two sequences share."""
    length = min(len(one), len(other))
    different = np.flatnonzero(one[:length] != other[:length])
    return int(different[0]) if len(different) else length
