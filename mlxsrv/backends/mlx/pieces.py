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
        began = time.perf_counter()
        for array, count in self._grouped(pieces):
            took = self._evaluate(array, count)
            if time.perf_counter() - began + took > self._seconds:
                yield
                began = time.perf_counter()
        return array

    def _grouped(self, pieces: Pieces) -> Iterator[tuple[mx.array, int]]:
        """The last of each group of pieces and how many it has; in the end the result."""
        count = 0
        while True:
            count += 1
            try:
                array = next(pieces)
            except StopIteration as end:
                yield end.value, count
                return
            if count >= self._together:
                yield array, count
                count = 0

    def _evaluate(self, array: mx.array, count: int) -> float:
        began = time.perf_counter()
        mx.eval(array)
        took = time.perf_counter() - began
        fitting = int(self._seconds * count / max(took, 1e-6))
        self._together = max(1, min(2 * self._together, fitting))
        return took
