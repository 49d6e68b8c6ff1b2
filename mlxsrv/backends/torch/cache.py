"""A preallocated KV cache in which every sequence of the batch has a row.

Rows in use are always the first ones, so that decoding reads one contiguous block; a row
that leaves is filled from the end. Room grows by doubling.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from transformers import Cache
from transformers.cache_utils import CacheLayerMixin

FIRST_ROWS = 4
FIRST_LENGTH = 256


@dataclass(slots=True)
class Window:
    """Where the forward pass that is under way reads and writes.

    `rows` is the block of rows taking part; `positions` [rows, tokens] says where each new
    token goes; `length` is how far attention may look. `start` is set when all rows begin at
    the same place, so that their new tokens make one block; else `row_index` [rows, 1] is.
    """

    rows: slice
    positions: torch.Tensor
    length: int
    start: int | None = None
    row_index: torch.Tensor | None = None


class _Layer(CacheLayerMixin):
    """Keys and values [rows, heads, length, head size] of one layer."""

    def __init__(self, cache: RowCache) -> None:
        super().__init__()
        self._cache = cache

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.keys = self._room_for(key_states)
        self.values = self._room_for(value_states)
        self.is_initialized = True

    def _room_for(self, states: torch.Tensor) -> torch.Tensor:
        _, heads, _, size = states.shape
        return states.new_zeros(self._cache.row_room, heads, self._cache.length_room, size)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None and self.values is not None
        at = self._cache.window
        keys, values = self.keys[at.rows, :, : at.length], self.values[at.rows, :, : at.length]
        if at.start is not None:
            keys[:, :, at.start :] = key_states
            values[:, :, at.start :] = value_states
        else:
            self.keys[at.row_index, :, at.positions] = key_states.transpose(1, 2)
            self.values[at.row_index, :, at.positions] = value_states.transpose(1, 2)
        return keys, values

    def make_room(self) -> None:
        if self.keys is None or self.values is None:
            return
        self.keys, self.values = self._grown(self.keys), self._grown(self.values)

    def _grown(self, old: torch.Tensor) -> torch.Tensor:
        new = self._room_for(old)
        new[: old.shape[0], :, : old.shape[2]] = old
        return new

    def get_seq_length(self) -> int:
        return self._cache.window.length

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._cache.window.length, 0

    def get_max_length(self) -> int:
        return -1


class RowCache(Cache):
    """All layers' keys and values; a transformers cache for ragged batches."""

    def __init__(self, layers: int) -> None:
        self.row_room = FIRST_ROWS
        self.length_room = FIRST_LENGTH
        empty = torch.zeros(0, 0, dtype=torch.long)
        self.window = Window(slice(0, 0), empty, 0)
        super().__init__(layers=[_Layer(self) for _ in range(layers)])

    def ensure_room(self, rows: int, length: int) -> None:
        """Grows the cache, keeping what it holds. Raises RuntimeError when memory is out."""
        row_room, length_room = self.row_room, self.length_room
        while row_room < rows:
            row_room *= 2
        while length_room < length:
            length_room *= 2
        if (row_room, length_room) != (self.row_room, self.length_room):
            self.row_room, self.length_room = row_room, length_room
            for layer in self.layers:
                layer.make_room()

    def clear(self) -> None:
        """Forgets all rows and frees their memory at once: cache and layers refer to each other,
        so a cache that is dropped stays until Python looks for such circles."""
        self.row_room, self.length_room = FIRST_ROWS, FIRST_LENGTH
        for layer in self.layers:
            layer.keys = layer.values = None
            layer.is_initialized = False

    def move(self, source: int, target: int, length: int) -> None:
        """Copies the first `length` places of one row over another."""
        for states in self._states():
            states[target, :, :length] = states[source, :, :length]

    def swap(self, one: int, other: int, length: int) -> None:
        pair, reverse = torch.tensor([one, other]), torch.tensor([other, one])
        for states in self._states():
            states[pair, :, :length] = states[reverse, :, :length]

    def copy_of(self, row: int, length: int) -> list[torch.Tensor]:
        """The first `length` places of a row: keys and values [heads, length, head size], layer
        after layer."""
        return [states[row, :, :length].clone() for states in self._states()]

    def put(self, row: int, kept: list[torch.Tensor], length: int) -> None:
        """Writes the first `length` places of what `copy_of` gave into a row."""
        for layer, keys, values in zip(self.layers, kept[::2], kept[1::2], strict=True):
            if not layer.is_initialized:
                layer.lazy_initialization(keys[None], values[None])
        for states, part in zip(self._states(), kept, strict=True):
            states[row, :, :length] = part[:, :length]

    def _states(self) -> Iterator[torch.Tensor]:
        for layer in self.layers:
            for states in (layer.keys, layer.values):
                if states is not None:
                    yield states
