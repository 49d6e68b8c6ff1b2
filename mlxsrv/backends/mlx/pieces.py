"""Long computations in slices."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator

import mlx.core as mx

Pieces = Generator[mx.array, None, mx.array]
"""Yields what may be evaluated by then, and returns the result."""


class Pace:
    """Learns how many pieces of a computation can be evaluated together within a slice.

    One for each stage of a drawing: its first pieces are evaluated one by one, ever more at once
    as long as they are quick.
    """

    def __init__(self, slice_seconds: float) -> None:
        self._seconds = slice_seconds
        self._together = 1

    def run(self, pieces: Pieces) -> Generator[None, None, mx.array]:
        """The result, evaluated; yields after each slice but the last."""
        slice_began = began = time.perf_counter()
        for array, count in self._grouped(pieces):
            mx.eval(array)
            took = time.perf_counter() - began
            self._learn(took, count)
            if time.perf_counter() - slice_began + took > self._seconds:
                yield
                slice_began = time.perf_counter()
            began = time.perf_counter()
        return array

    def _grouped(self, pieces: Pieces) -> Iterator[tuple[mx.array, int]]:
        """The last of each group of pieces and how many it has; in the end the result.

        What some evaluate of their own, while they are made, ends a group that it makes long.
        """
        count, began = 0, time.perf_counter()
        while True:
            count += 1
            try:
                array = next(pieces)
            except StopIteration as end:
                yield end.value, count
                return
            if count >= self._together or time.perf_counter() - began > self._seconds / 2:
                yield array, count
                count, began = 0, time.perf_counter()

    def _learn(self, took: float, count: int) -> None:
        fitting = int(self._seconds * count / max(took, 1e-6))
        self._together = max(1, min(2 * self._together, fitting))
