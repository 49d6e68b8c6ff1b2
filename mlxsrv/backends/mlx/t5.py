"""T5's encoder on MLX (arXiv:1910.10683), of any size; modules called as transformers names the
tensors."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray

from mlxsrv.backends.mlx.activations import named_activation


@dataclass(frozen=True, slots=True)
class T5Shape:
    vocabulary: int
    width: int
    head_width: int
    heads: int
    inner: int
    layers: int
    activation: str
    gated: bool
    buckets: int
    distance: int
    epsilon: float


def t5_shape(config: Mapping[str, Any]) -> T5Shape:
    """Raises KeyError where the config says too little."""
    kind = str(config.get("feed_forward_proj", "relu"))
    gated = kind.startswith("gated-")
    activation = kind.removeprefix("gated-")
    return T5Shape(
        vocabulary=config["vocab_size"],
        width=config["d_model"],
        head_width=config["d_kv"],
        heads=config["num_heads"],
        inner=config["d_ff"],
        layers=config["num_layers"],
        # transformers takes this one for the approximation.
        activation="gelu_new" if kind == "gated-gelu" else activation,
        gated=gated,
        buckets=config.get("relative_attention_num_buckets", 32),
        distance=config.get("relative_attention_max_distance", 128),
        epsilon=config.get("layer_norm_epsilon", 1e-6),
    )


class T5(nn.Module):
    def __init__(self, shape: T5Shape) -> None:
        super().__init__()
        self.shared = nn.Embedding(shape.vocabulary, shape.width)
        self.encoder = Stack(shape)

    def __call__(self, ids: NDArray[np.int64]) -> Generator[mx.array, None, mx.array]:
        """Hidden states [1, tokens, width] of ids [tokens], padding included; yields after each
        layer what may be evaluated then."""
        return (yield from self.encoder(self.shared(mx.array(ids))[None]))


class Stack(nn.Module):
    def __init__(self, shape: T5Shape) -> None:
        super().__init__()
        self.block = [Block(shape, is_first=place == 0) for place in range(shape.layers)]
        self.final_layer_norm = nn.RMSNorm(shape.width, eps=shape.epsilon)
        self._shape = shape

    def __call__(self, hidden: mx.array) -> Generator[mx.array, None, mx.array]:
        bias = self._bias(hidden.shape[1])
        for block in self.block:
            hidden = block(hidden, bias)
            yield hidden
        return self.final_layer_norm(hidden)

    def _bias(self, tokens: int) -> mx.array:
        """What distance adds to the attention of all layers [1, heads, tokens, tokens]."""
        buckets = relative_buckets(tokens, self._shape.buckets, self._shape.distance)
        table: nn.Embedding = self.block[0].layer[0].SelfAttention.relative_attention_bias
        return table(mx.array(buckets)).transpose(2, 0, 1)[None]


class Block(nn.Module):
    def __init__(self, shape: T5Shape, *, is_first: bool) -> None:
        super().__init__()
        self.layer: list[Any] = [
            AttentionLayer(shape, is_first=is_first),
            FeedForwardLayer(shape),
        ]

    def __call__(self, hidden: mx.array, bias: mx.array) -> mx.array:
        return self.layer[1](self.layer[0](hidden, bias))


class AttentionLayer(nn.Module):
    def __init__(self, shape: T5Shape, *, is_first: bool) -> None:
        super().__init__()
        self.SelfAttention = Attention(shape, is_first=is_first)
        self.layer_norm = nn.RMSNorm(shape.width, eps=shape.epsilon)

    def __call__(self, hidden: mx.array, bias: mx.array) -> mx.array:
        return hidden + self.SelfAttention(self.layer_norm(hidden), bias)


class Attention(nn.Module):
    def __init__(self, shape: T5Shape, *, is_first: bool) -> None:
        super().__init__()
        inner = shape.heads * shape.head_width
        self.q = nn.Linear(shape.width, inner, bias=False)
        self.k = nn.Linear(shape.width, inner, bias=False)
        self.v = nn.Linear(shape.width, inner, bias=False)
        self.o = nn.Linear(inner, shape.width, bias=False)
        if is_first:
            self.relative_attention_bias = nn.Embedding(shape.buckets, shape.heads)
        self._heads = shape.heads

    def __call__(self, hidden: mx.array, bias: mx.array) -> mx.array:
        q, k, v = (self._split(layer(hidden)) for layer in (self.q, self.k, self.v))
        # T5 does not scale its scores.
        found = mx.fast.scaled_dot_product_attention(q, k, v, scale=1.0, mask=bias)
        return self.o(found.transpose(0, 2, 1, 3).reshape(1, hidden.shape[1], -1))

    def _split(self, hidden: mx.array) -> mx.array:
        return hidden.reshape(1, hidden.shape[1], self._heads, -1).transpose(0, 2, 1, 3)


class FeedForwardLayer(nn.Module):
    def __init__(self, shape: T5Shape) -> None:
        super().__init__()
        self.DenseReluDense = GatedDense(shape) if shape.gated else Dense(shape)
        self.layer_norm = nn.RMSNorm(shape.width, eps=shape.epsilon)

    def __call__(self, hidden: mx.array) -> mx.array:
        return hidden + self.DenseReluDense(self.layer_norm(hidden))


class Dense(nn.Module):
    def __init__(self, shape: T5Shape) -> None:
        super().__init__()
        self.wi = nn.Linear(shape.width, shape.inner, bias=False)
        self.wo = nn.Linear(shape.inner, shape.width, bias=False)
        self._activation = named_activation(shape.activation)

    def __call__(self, hidden: mx.array) -> mx.array:
        return self.wo(self._activation(self.wi(hidden)))


class GatedDense(nn.Module):
    def __init__(self, shape: T5Shape) -> None:
        super().__init__()
        self.wi_0 = nn.Linear(shape.width, shape.inner, bias=False)
        self.wi_1 = nn.Linear(shape.width, shape.inner, bias=False)
        self.wo = nn.Linear(shape.inner, shape.width, bias=False)
        self._activation = named_activation(shape.activation)

    def __call__(self, hidden: mx.array) -> mx.array:
        return self.wo(self._activation(self.wi_0(hidden)) * self.wi_1(hidden))


def relative_buckets(tokens: int, buckets: int, distance: int) -> NDArray[np.int32]:
    """The bucket of every key's distance from every query [queries, keys].

    Half the buckets are for keys that come later; near distances have one each, far ones share
    logarithmically up to `distance`.
    """
    places = np.arange(tokens)
    ahead = places - places[:, None]
    half, away = buckets // 2, np.abs(ahead)
    exact = half // 2
    # In float32, as transformers has it: at the edges of the buckets that decides.
    ratio = np.log(np.maximum(away, 1).astype(np.float32) / np.float32(exact))
    spread = ratio / np.float32(math.log(distance / exact)) * np.float32(half - exact)
    far = np.minimum(exact + spread.astype(np.int32), half - 1)
    own = np.where(away < exact, away, far)
    found: NDArray[np.int32] = (own + half * (ahead > 0)).astype(np.int32)
    return found
