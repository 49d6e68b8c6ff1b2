"""Reading weights, a slice at a time."""

from __future__ import annotations

from collections.abc import Generator

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

SLICE_BYTES = 64_000_000
"""Of weights, read in one go: beside a load, streams go on."""


def read_weights(model: nn.Module) -> Generator[int, None, None]:
    """Reads what a lazily loaded model has only promised; yields the bytes read so far."""
    read, group, pending = 0, 0, []
    for _, array in tree_flatten(model.parameters()):
        pending.append(array)
        group += array.nbytes
        if group >= SLICE_BYTES:
            mx.eval(pending)
            read, group, pending = read + group, 0, []
            yield read
    mx.eval(pending)
    yield read + group
