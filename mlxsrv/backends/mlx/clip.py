"""CLIP's text encoder on MLX (arXiv:2103.00020), of any size; modules called as transformers
names the tensors, without the `text_model.` of older files."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray

from mlxsrv.backends.mlx.activations import named_activation

WRONG_END = 2
"""The id of the end in configs from before transformers corrected it: there the end is the
highest id of a text."""


@dataclass(frozen=True, slots=True)
class ClipShape:
    vocabulary: int
    width: int
    heads: int
    inner: int
    layers: int
    positions: int
    activation: str
    epsilon: float
    end: int


def clip_shape(config: Mapping[str, Any]) -> ClipShape:
    """Raises KeyError where the config says too little."""
    return ClipShape(
        vocabulary=config.get("vocab_size", 49408),
        width=config["hidden_size"],
        heads=config["num_attention_heads"],
        inner=config["intermediate_size"],
        layers=config["num_hidden_layers"],
        positions=config.get("max_position_embeddings", 77),
        activation=config.get("hidden_act", "quick_gelu"),
        epsilon=config.get("layer_norm_eps", 1e-5),
        end=config.get("eos_token_id", 49407),
    )


class Clip(nn.Module):
    def __init__(self, shape: ClipShape) -> None:
        super().__init__()
        self.embeddings = Embeddings(shape)
        self.encoder = Layers(shape)
        self.final_layer_norm = nn.LayerNorm(shape.width, eps=shape.epsilon)
        self._end = shape.end

    def __call__(self, ids: NDArray[np.int64]) -> Generator[mx.array, None, mx.array]:
        """The gist of a text [1, width], of its ids [tokens]; yields after each layer what may be
        evaluated then."""
        hidden = self.embeddings(mx.array(ids)[None])
        for layer in self.encoder.layers:
            hidden = layer(hidden)
            yield hidden
        return self.final_layer_norm(hidden[:, self._place_of_end(ids)])

    def _place_of_end(self, ids: NDArray[np.int64]) -> int:
        return int(np.argmax(ids if self._end == WRONG_END else ids == self._end))


class Embeddings(nn.Module):
    def __init__(self, shape: ClipShape) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(shape.vocabulary, shape.width)
        self.position_embedding = nn.Embedding(shape.positions, shape.width)

    def __call__(self, ids: mx.array) -> mx.array:
        return self.token_embedding(ids) + self.position_embedding(mx.arange(ids.shape[1]))


class Layers(nn.Module):
    def __init__(self, shape: ClipShape) -> None:
        super().__init__()
        self.layers = [Layer(shape) for _ in range(shape.layers)]


class Layer(nn.Module):
    def __init__(self, shape: ClipShape) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(shape.width, eps=shape.epsilon)
        self.self_attn = Attention(shape)
        self.layer_norm2 = nn.LayerNorm(shape.width, eps=shape.epsilon)
        self.mlp = FeedForward(shape)

    def __call__(self, hidden: mx.array) -> mx.array:
        hidden = hidden + self.self_attn(self.layer_norm1(hidden))
        return hidden + self.mlp(self.layer_norm2(hidden))


class Attention(nn.Module):
    def __init__(self, shape: ClipShape) -> None:
        super().__init__()
        self.q_proj = nn.Linear(shape.width, shape.width)
        self.k_proj = nn.Linear(shape.width, shape.width)
        self.v_proj = nn.Linear(shape.width, shape.width)
        self.out_proj = nn.Linear(shape.width, shape.width)
        self._heads = shape.heads

    def __call__(self, hidden: mx.array) -> mx.array:
        q, k, v = (self._split(layer(hidden)) for layer in (self.q_proj, self.k_proj, self.v_proj))
        found = mx.fast.scaled_dot_product_attention(
            q, k, v, scale=q.shape[-1] ** -0.5, mask="causal"
        )
        return self.out_proj(found.transpose(0, 2, 1, 3).reshape(hidden.shape))

    def _split(self, hidden: mx.array) -> mx.array:
        return hidden.reshape(1, hidden.shape[1], self._heads, -1).transpose(0, 2, 1, 3)


class FeedForward(nn.Module):
    def __init__(self, shape: ClipShape) -> None:
        super().__init__()
        self.fc1 = nn.Linear(shape.width, shape.inner)
        self.fc2 = nn.Linear(shape.inner, shape.width)
        self._activation = named_activation(shape.activation)

    def __call__(self, hidden: mx.array) -> mx.array:
        return self.fc2(self._activation(self.fc1(hidden)))
