"""BERT and its kin on MLX: one encoder, shaped by the configuration.

BERT (arXiv:1810.04805), RoBERTa, DistilBERT, MPNet (arXiv:2004.09297), Nomic BERT
(arXiv:2402.01613) and ModernBERT (arXiv:2412.13663) differ in positions, in where they
normalise and in their feed-forward part.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray

from mlxsrv.backends.encoding import Batch, Pooling, token_weights
from mlxsrv.backends.mlx.encoder_shape import Attention, ClassifierShape, EncoderShape
from mlxsrv.core.errors import LoadError

MAX_DISTANCE = 128
"""From here on MPNet takes all distances for the same."""

_ACTIVATIONS: dict[str, Callable[[mx.array], mx.array]] = {
    "gelu": nn.gelu,
    "gelu_fast": nn.gelu_approx,
    "gelu_new": nn.gelu_approx,
    "gelu_pytorch_tanh": nn.gelu_approx,
    "relu": nn.relu,
    "silu": nn.silu,
    "swish": nn.silu,
    "tanh": mx.tanh,
}


def activation(name: str) -> Callable[[mx.array], mx.array]:
    """By its name in a Hugging Face configuration. Raises LoadError."""
    if name not in _ACTIVATIONS:
        raise LoadError(f"the activation {name!r} is not served on MLX")
    return _ACTIVATIONS[name]


class Encoder(nn.Module):
    """Token ids to one vector per token."""

    def __init__(self, shape: EncoderShape) -> None:
        super().__init__()
        self.words = nn.Embedding(shape.vocabulary, shape.width)
        if shape.positions:
            self.positions = nn.Embedding(shape.positions, shape.width)
        if shape.types:
            self.types = nn.Embedding(shape.types, shape.width)
        if shape.buckets:
            self.relative = nn.Embedding(shape.buckets, shape.heads)
        self.norm = _norm(shape)
        self.layers = [
            Layer(shape, attention, is_first=place == 0)
            for place, attention in enumerate(shape.attentions)
        ]
        if shape.norm_first:
            self.final_norm = _norm(shape)
        self._shape = shape

    def __call__(self, batch: Batch) -> mx.array:
        """Hidden states [rows, width of the batch, dimensions]."""
        width = batch.ids.shape[1]
        hidden = self.norm(self._embed(batch))
        bias = self._bias(width) if self._shape.buckets else None
        masks = {
            attention.window: attention_mask(batch.real, width, attention.window, bias)
            for attention in self._shape.attentions
        }
        for layer, attention in zip(self.layers, self._shape.attentions, strict=True):
            hidden = layer(hidden, masks[attention.window])
        return self.final_norm(hidden) if self._shape.norm_first else hidden

    def _embed(self, batch: Batch) -> mx.array:
        embedded = self.words(mx.array(batch.ids))
        if self._shape.positions:
            first = self._shape.first_position
            places = mx.arange(first, first + batch.ids.shape[1])
            embedded = embedded + self.positions(places)
        if self._shape.types:
            two = batch.types is not None and self._shape.types > 1
            types = mx.array(batch.types) if two else mx.zeros((1, 1), mx.int32)
            embedded = embedded + self.types(types)
        return embedded

    def _bias(self, width: int) -> mx.array:
        """What relative distance adds to the attention [1, heads, width, width]."""
        buckets = mx.array(relative_buckets(width, self._shape.buckets))
        return self.relative(buckets).transpose(2, 0, 1)[None]


class Layer(nn.Module):
    """Self-attention and a feed-forward part, each added to what goes into it."""

    def __init__(self, shape: EncoderShape, attention: Attention, *, is_first: bool) -> None:
        super().__init__()
        width, inner = shape.width, shape.inner
        self.qkv = nn.Linear(width, 3 * width, bias=shape.attention_bias)
        self.out = nn.Linear(width, width, bias=shape.attention_bias)
        self.up = nn.Linear(width, inner * (2 if shape.gated else 1), bias=shape.inner_bias)
        self.down = nn.Linear(inner, width, bias=shape.inner_bias)
        # The embeddings are normalised already when they come to the first layer.
        normalised = shape.norm_first and is_first
        self.attention_norm = nn.Identity() if normalised else _norm(shape)
        self.mlp_norm = _norm(shape)
        self._heads = shape.heads
        self._rope = attention.rope
        self._gated = shape.gated
        self._norm_first = shape.norm_first
        self._activation = activation(shape.activation)

    def __call__(self, hidden: mx.array, mask: mx.array | None) -> mx.array:
        if self._norm_first:
            hidden = hidden + self._attend(self.attention_norm(hidden), mask)
            return hidden + self._feed_forward(self.mlp_norm(hidden))
        hidden = self.attention_norm(hidden + self._attend(hidden, mask))
        return self.mlp_norm(hidden + self._feed_forward(hidden))

    def _attend(self, hidden: mx.array, mask: mx.array | None) -> mx.array:
        rows, width, dimensions = hidden.shape
        size = dimensions // self._heads
        parts = self.qkv(hidden).reshape(rows, width, 3, self._heads, size)
        queries, keys, values = parts.transpose(2, 0, 3, 1, 4)
        if self._rope is not None:
            queries, keys = self._rotated(queries), self._rotated(keys)
        attended = mx.fast.scaled_dot_product_attention(
            queries, keys, values, scale=1 / math.sqrt(size), mask=mask
        )
        return self.out(attended.transpose(0, 2, 1, 3).reshape(rows, width, dimensions))

    def _rotated(self, vectors: mx.array) -> mx.array:
        return mx.fast.rope(
            vectors, vectors.shape[-1], traditional=False, base=self._rope, scale=1.0, offset=0
        )

    def _feed_forward(self, hidden: mx.array) -> mx.array:
        if not self._gated:
            return self.down(self._activation(self.up(hidden)))
        activated, factor = mx.split(self.up(hidden), 2, axis=-1)
        return self.down(self._activation(activated) * factor)


class Classifier(nn.Module):
    """From the first token, or the mean of all, to a logit per label."""

    def __init__(self, shape: EncoderShape, labels: int) -> None:
        super().__init__()
        head: ClassifierShape = shape.classifier
        self.dense = nn.Linear(shape.width, shape.width, bias=head.bias)
        self.norm = _norm(shape) if head.norm else nn.Identity()
        self.labels = nn.Linear(shape.width, labels)
        self._activation = activation(head.activation)
        self._mean = head.mean

    def __call__(self, hidden: mx.array, batch: Batch) -> mx.array:
        """Logits [rows, labels] from hidden states."""
        pooled = hidden[:, 0]
        if self._mean:
            weights = mx.array(token_weights([Pooling.MEAN], batch)).astype(hidden.dtype)
            pooled = (weights @ hidden)[:, 0]
        return self.labels(self.norm(self._activation(self.dense(pooled))))


def _norm(shape: EncoderShape) -> nn.LayerNorm:
    return nn.LayerNorm(shape.width, eps=shape.epsilon, bias=shape.norm_bias)


def attention_mask(
    real: NDArray[np.bool_] | None, width: int, window: int | None, bias: mx.array | None
) -> mx.array | None:
    """Which keys each query sees, broadcast to [rows, heads, queries, keys]; None: all.

    A place always sees itself: padding that sees nothing would become NaN, and spread. With
    `bias` the mask is what is added to the scores.
    """
    seen = None if real is None else mx.array(real)[:, None, None, :]
    if window is not None and width > window + 1:
        places = mx.arange(width)
        distance = mx.abs(places[:, None] - places)[None, None]
        near = distance <= window
        seen = near if seen is None else (near & seen) | (distance == 0)
    if bias is None or seen is None:
        return seen if bias is None else bias
    return mx.where(seen, bias, -math.inf)


def relative_buckets(width: int, buckets: int) -> NDArray[np.int32]:
    """MPNet's bucket of every key's distance from every query [queries, keys].

    Half the buckets are for keys that come later; near distances have one each, far ones share
    logarithmically (T5's formula, arXiv:1910.10683).
    """
    places = np.arange(width)
    behind = places[:, None] - places
    half, distance = buckets // 2, np.abs(behind)
    exact = half // 2
    spread = np.log(np.maximum(distance, 1) / exact) / math.log(MAX_DISTANCE / exact)
    far = np.minimum(exact + (spread * (half - exact)).astype(np.int32), half - 1)
    own = np.where(distance < exact, distance, far)
    found: NDArray[np.int32] = (own + half * (behind < 0)).astype(np.int32)
    return found
