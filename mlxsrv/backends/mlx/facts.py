"""What is known of a loaded model."""

from __future__ import annotations

from collections.abc import Iterable

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from mlxsrv.backends.base import ModelFacts


def facts_of(modules: Iterable[nn.Module], *, vocab_size: int) -> ModelFacts:
    """The facts of a model that is made of these modules."""
    arrays = [array for module in modules for _, array in tree_flatten(module.parameters())]
    floating = {str(array.dtype) for array in arrays if mx.issubdtype(array.dtype, mx.floating)}
    return ModelFacts(
        backend="mlx",
        vocab_size=vocab_size,
        memory_bytes=sum(array.nbytes for array in arrays),
        dtype=",".join(sorted(name.removeprefix("mlx.core.") for name in floating)),
    )
