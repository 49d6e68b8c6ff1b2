"""Convolutions in bounded memory."""

from __future__ import annotations

import mlx.core as mx

from mlxsrv.backends.mlx.memory import PATCHES, on_cpu


def convolved(x: mx.array, weight: mx.array, bias: mx.array | None) -> mx.array:
    """3x3 over [1, height, width, channels], and as large as it; in strips on the CPU.

    `weight` [outputs, 3, 3, channels].
    """
    _, height, width, channels = x.shape
    rows = max(1, PATCHES // (9 * width * channels * x.itemsize))
    if rows >= height or not on_cpu():
        found = mx.conv2d(x, weight, padding=1)
    else:
        padded = mx.pad(x, [(0, 0), (1, 1), (0, 0), (0, 0)])
        starts = range(0, height, rows)
        found = mx.concatenate([_strip(padded[:, y : y + rows + 2], weight) for y in starts], 1)
    return found if bias is None else found + bias


def _strip(x: mx.array, weight: mx.array) -> mx.array:
    """Evaluated, so that the next one takes the memory of this one's patches."""
    strip = mx.conv2d(x, weight, padding=(0, 1))
    mx.eval(strip)
    return strip


def patch_bytes(nbytes: int) -> int:
    """What the patches take of an array with so many bytes."""
    return min(9 * nbytes, PATCHES) if on_cpu() else 0
