"""Attention in bounded memory."""

from __future__ import annotations

import mlx.core as mx

from mlxsrv.backends.mlx.exponential import exponential
from mlxsrv.backends.mlx.memory import on_cpu

SCORE_BYTES = 256_000_000
"""Of scores that exist at once, where no kernel does without them."""
_FUSED_WIDTHS = frozenset({64, 80, 128})
"""Of heads, for which Metal has such a kernel."""


def attend(queries: mx.array, keys: mx.array, values: mx.array) -> mx.array:
    """Softmax attention of [rows, heads, tokens, width], scaled by the width."""
    rows = _rows_at_once(queries.shape, keys.shape[2], queries.itemsize)
    tokens = queries.shape[2]
    if tokens <= rows:
        return _attended(queries, keys, values)
    blocks = []
    for first in range(0, tokens, rows):
        blocks.append(_attended(queries[:, :, first : first + rows], keys, values))
        mx.eval(blocks[-1])
    return mx.concatenate(blocks, axis=2)


def _attended(queries: mx.array, keys: mx.array, values: mx.array) -> mx.array:
    scale = queries.shape[-1] ** -0.5
    if not on_cpu():
        return mx.fast.scaled_dot_product_attention(queries, keys, values, scale=scale)
    scores = (queries * scale) @ keys.swapaxes(-1, -2)
    weights = exponential(scores - scores.max(axis=-1, keepdims=True))
    return (weights @ values) / weights.sum(axis=-1, keepdims=True)


def _rows_at_once(queries: tuple[int, ...], keys: int, itemsize: int) -> int:
    rows, heads, tokens, width = queries
    if _is_fused(width):
        return tokens
    return max(1, SCORE_BYTES // (2 * rows * heads * keys * itemsize))


def score_bytes(heads: int, width: int, tokens: int, itemsize: int) -> int:
    """What the scores and their softmax take where so many tokens attend to each other."""
    if _is_fused(width):
        return 0
    return min(2 * heads * tokens**2 * itemsize, max(SCORE_BYTES, 2 * heads * tokens * itemsize))


def _is_fused(width: int) -> bool:
    return width in _FUSED_WIDTHS and not on_cpu()
