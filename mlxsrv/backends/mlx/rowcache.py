"""A preallocated KV cache in which every sequence of the batch has a row.

Rows in use are always the first ones, so that a step reads one block. Room grows by doubling.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx

from mlxsrv.backends.transcription_rows import Block

FIRST_ROWS = 4
FIRST_LENGTH = 256


class RowCache:
    """All layers' keys and values, each [rows, heads, length, head size]."""

    def __init__(self, layers: int) -> None:
        self._keys: list[mx.array | None] = [None] * layers
        self._values: list[mx.array | None] = [None] * layers
        self._rows, self._length = FIRST_ROWS, FIRST_LENGTH

    def ensure_room(self, rows: int, length: int) -> None:
        """Grows the cache, keeping what it holds."""
        while self._rows < rows:
            self._rows *= 2
        while self._length < length:
            self._length *= 2

    def update(
        self, layer: int, keys: mx.array, values: mx.array, block: Block[Any], places: mx.array
    ) -> tuple[mx.array, mx.array]:
        """Writes the block's new states [rows, heads, tokens, size] at `places` [rows, tokens].

        Gives all that its rows hold in this layer, up to the longest.
        """
        keys = self._updated(self._keys, layer, keys, block, places)
        values = self._updated(self._values, layer, values, block, places)
        return keys, values

    def _updated(
        self,
        states: list[mx.array | None],
        layer: int,
        new: mx.array,
        block: Block[Any],
        places: mx.array,
    ) -> mx.array:
        kept = states[layer] = self._roomy(states[layer], new)
        rows = slice(block.first, block.end)
        if block.start is not None:
            kept[rows, :, block.start : block.length] = new
        else:
            index = mx.arange(block.first, block.end)[:, None, None]
            kept[index, mx.arange(new.shape[1])[None, :, None], places[:, None]] = new
        return kept[rows, :, : block.length]

    def _roomy(self, old: mx.array | None, new: mx.array) -> mx.array:
        _, heads, _, size = new.shape
        if old is None:
            return mx.zeros((self._rows, heads, self._length, size), new.dtype)
        rows, length = self._rows - old.shape[0], self._length - old.shape[2]
        return mx.pad(old, [(0, rows), (0, 0), (0, length), (0, 0)]) if rows or length else old

    def move(self, source: int, target: int, length: int) -> None:
        """Copies the first `length` places of one row over another."""
        for states in (self._keys, self._values):
            for kept in states:
                if kept is not None:
                    kept[target, :, :length] = kept[source, :, :length]
