"""Long work that comes in pieces, run a slice at a time."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

SLICE_SECONDS = 0.03
"""How long a slice runs, beyond which it ends with the piece at hand."""


def in_slices(pieces: Iterable[T | None]) -> Iterator[list[T] | None]:
    """Gives None after every slice but the last, and after that what the pieces gave."""
    given: list[T] = []
    began = time.perf_counter()
    for piece in pieces:
        if piece is not None:
            given.append(piece)
        if time.perf_counter() - began > SLICE_SECONDS:
            yield None
            began = time.perf_counter()
    yield given
