"""From the vectors of a text's tokens to one vector, on MLX."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import mlx.core as mx
import mlx.nn as nn

from mlxsrv.backends.encoding import Batch, Pooling, token_weights
from mlxsrv.backends.mlx.encoder_weights import Arrays, read_arrays
from mlxsrv.backends.sentence import Dense, Head, LayerNorm, SentenceSettings

_ACTIVATIONS: Mapping[str, Callable[[mx.array], mx.array]] = {
    "GELU": nn.gelu,
    "Identity": lambda vectors: vectors,
    "ReLU": nn.relu,
    "SiLU": nn.silu,
    "Sigmoid": mx.sigmoid,
    "Tanh": mx.tanh,
}


def pool(hidden: mx.array, modes: Sequence[Pooling], batch: Batch) -> mx.array:
    """From hidden states to [rows, modes × dimensions], in float32."""
    weights = mx.array(token_weights(modes, batch))
    hidden = hidden.astype(mx.float32)
    parts = weights @ hidden
    for place, mode in enumerate(modes):
        if mode is Pooling.MAX:
            counted = weights[:, place, :, None] > 0
            parts[:, place] = mx.where(counted, hidden, -math.inf).max(axis=1)
    return parts.reshape(parts.shape[0], -1)


class SentenceHeads(nn.Module):
    """The layers that follow the pooling."""

    def __init__(self, heads: Sequence[Head]) -> None:
        super().__init__()
        self.heads = [_module(head) for head in heads]

    def __call__(self, vectors: mx.array) -> mx.array:
        for head in self.heads:
            vectors = head(vectors)
        return vectors


class DenseHead(nn.Module):
    def __init__(self, head: Dense) -> None:
        super().__init__()
        self.linear = nn.Linear(head.inputs, head.outputs, bias=head.bias)
        if head.residual and head.inputs != head.outputs:
            self.residual = nn.Linear(head.inputs, head.outputs, bias=False)
        self._adds = head.residual
        self._activation = _ACTIVATIONS[head.activation]

    def __call__(self, vectors: mx.array) -> mx.array:
        out = self._activation(self.linear(vectors))
        if not self._adds:
            return out
        return out + (self.residual(vectors) if "residual" in self else vectors)


class NormHead(nn.Module):
    def __init__(self, head: LayerNorm) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(head.dimension)

    def __call__(self, vectors: mx.array) -> mx.array:
        return self.norm(vectors)


class UnitHead(nn.Module):
    def __call__(self, vectors: mx.array) -> mx.array:
        return vectors / mx.maximum(mx.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def _module(head: Head) -> nn.Module:
    if isinstance(head, Dense):
        return DenseHead(head)
    return NormHead(head) if isinstance(head, LayerNorm) else UnitHead()


def head_arrays(settings: SentenceSettings) -> Arrays:
    """The heads' tensors, each from its own folder. Raises CheckpointRefused, LoadError."""
    named: Arrays = {}
    for place, head in enumerate(settings.heads):
        if isinstance(head, Dense | LayerNorm):
            arrays = read_arrays(head.folder)
            if isinstance(head, Dense):
                arrays = _own(arrays, head.linear)
            named |= {f"heads.{place}.{name}": array for name, array in arrays.items()}
    return named


def _own(arrays: Arrays, linear: str) -> Arrays:
    """Those of one dense layer, among which it is called `linear`."""
    parts = (f"{linear}.", "residual.")
    return {
        name.replace(f"{linear}.", "linear.", 1): array
        for name, array in arrays.items()
        if name.startswith(parts)
    }
