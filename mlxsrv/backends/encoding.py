"""Rows of tokens as arrays, and which of their tokens make up a vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from mlxsrv.core.encoding import TokenRow
from mlxsrv.core.errors import GenerationFailed

Floats = NDArray[np.float32]


class Pooling(StrEnum):
    """How the vectors of a row's tokens become one, in the words of sentence-transformers."""

    CLS = "cls"
    MAX = "max"
    MEAN = "mean"
    MEAN_SQRT_LENGTH = "mean_sqrt_len_tokens"
    WEIGHTED_MEAN = "weightedmean"
    LAST_TOKEN = "lasttoken"


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows padded on the right to the longest: `ids` and `types` [rows, width].

    `types` is None where all tokens are of the first text; `lengths` and `unpooled` [rows].
    """

    ids: NDArray[np.int32]
    types: NDArray[np.int32] | None
    lengths: NDArray[np.int32]
    unpooled: NDArray[np.int32]

    @property
    def real(self) -> NDArray[np.bool_] | None:
        """Which places hold tokens [rows, width]; None where all do."""
        width = self.ids.shape[1]
        if (self.lengths == width).all():
            return None
        return np.arange(width) < self.lengths[:, None]


def pad(rows: Sequence[TokenRow]) -> Batch:
    """The rows as one batch; each has at least one token."""
    lengths = np.array([len(row.ids) for row in rows], np.int32)
    ids = np.zeros((len(rows), lengths.max()), np.int32)
    types = np.zeros_like(ids) if any(row.types for row in rows) else None
    for place, row in enumerate(rows):
        ids[place, : len(row.ids)] = row.ids
        if types is not None and row.types:
            types[place, : len(row.types)] = row.types
    return Batch(ids, types, lengths, np.array([row.unpooled for row in rows], np.int32))


def token_weights(modes: Sequence[Pooling], batch: Batch) -> Floats:
    """How much each token counts [rows, modes, width]: all modes but one are weighted sums.

    For MAX it says which tokens count at all. The formulas are those of sentence-transformers'
    Pooling module; a row without a token to pool has no weight anywhere.
    """
    places = np.arange(batch.ids.shape[1])
    pooled = (places >= batch.unpooled[:, None]) & (places < batch.lengths[:, None])
    weights: Floats = np.stack([_weights(mode, pooled) for mode in modes], axis=1).astype(
        np.float32
    )
    return weights


def _weights(mode: Pooling, pooled: NDArray[np.bool_]) -> NDArray[np.float64]:
    if mode is Pooling.CLS:
        return _ones(pooled & (pooled.cumsum(axis=1) == 1))
    if mode is Pooling.LAST_TOKEN:
        return _weights(Pooling.CLS, pooled[:, ::-1])[:, ::-1]
    if mode is Pooling.WEIGHTED_MEAN:
        weights = _ones(pooled) * np.arange(1.0, pooled.shape[1] + 1)
        return weights / _sums(weights)
    if mode is Pooling.MEAN:
        return _ones(pooled) / _sums(_ones(pooled))
    if mode is Pooling.MEAN_SQRT_LENGTH:
        return _ones(pooled) / np.sqrt(_sums(_ones(pooled)))
    return _ones(pooled)


def _ones(where: NDArray[np.bool_]) -> NDArray[np.float64]:
    return where.astype(np.float64)


def _sums(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each row, and one where there is nothing to divide."""
    sums: NDArray[np.float64] = weights.sum(axis=1, keepdims=True)
    return np.maximum(sums, 1.0)


def require_finite(values: Floats) -> Floats:
    """`values` as they are. Raises GenerationFailed where one is no number: JSON has none."""
    if not np.isfinite(values).all():
        raise GenerationFailed(
            "The model's numbers overflowed for this input: its float type is too small for it"
        )
    return values
