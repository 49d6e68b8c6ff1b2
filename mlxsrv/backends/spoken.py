"""What all models that speak do with the sound they make."""

from __future__ import annotations

import sys
import textwrap
import time
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from mlxsrv.backends.slices import SLICE_SECONDS
from mlxsrv.core.errors import InvalidRequest
from mlxsrv.core.speech import FRAMES_PER_SECOND
from mlxsrv.media.pcm import cleaned

SILENT = np.zeros(0, np.float32)
"""Given after a slice that made no sound yet."""


def bounded(
    blocks: Iterable[NDArray[np.float32]], rate: int, max_frames: int | None
) -> Iterator[NDArray[np.float32]]:
    """The blocks as long as they lie within `max_frames` (None: all), between -1 and 1."""
    left = sys.maxsize if max_frames is None else round(max_frames / FRAMES_PER_SECOND * rate)
    for block in blocks:
        yield cleaned(block[:left])
        left -= block.size
        if left <= 0:
            return


def in_slices(pieces: Iterable[NDArray[np.float32] | None]) -> Iterator[NDArray[np.float32]]:
    """Sound as it comes, and silence where none came while a slice lasted."""
    began = time.perf_counter()
    for piece in pieces:
        if piece is not None or time.perf_counter() - began > SLICE_SECONDS:
            yield SILENT if piece is None else piece
            began = time.perf_counter()


def unspeakable(text: str) -> InvalidRequest:
    shown = textwrap.shorten(text, 40, placeholder="…")
    return InvalidRequest(f"input: this voice has no sounds for {shown!r}", param="input")
