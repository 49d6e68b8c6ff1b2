"""FLUX.1's transformer on MLX, of any size.

Modules are called as diffusers names the tensors, so that weights and adapters need no map. A
call is for one picture at a time: its modulation is then the weight and bias of a layer norm.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray

from mlxsrv.backends.mlx.activations import gelu_tanh, silu
from mlxsrv.backends.mlx.attention import attend
from mlxsrv.core.errors import LoadError

Projected = tuple[mx.array, mx.array, mx.array]
"""Queries, keys and values [1, heads, tokens, head width]."""

EPSILON = 1e-6
TIME_WIDTH = 256
THETA = 10_000
LARGEST_HALF = 65_504


@dataclass(frozen=True, slots=True)
class FluxShape:
    """`width` is that of the hidden states; `axes` are how much of a head turns with each
    coordinate."""

    inputs: int
    outputs: int
    double_blocks: int
    single_blocks: int
    heads: int
    head_width: int
    text_width: int
    pooled_width: int
    guidance: bool
    axes: tuple[int, ...]

    @property
    def width(self) -> int:
        return self.heads * self.head_width


def flux_shape(config: Mapping[str, Any]) -> FluxShape:
    """Of a FluxTransformer2DModel's config. Raises LoadError."""
    shape = FluxShape(
        inputs=config.get("in_channels", 64),
        outputs=config.get("out_channels") or config.get("in_channels", 64),
        double_blocks=config.get("num_layers", 19),
        single_blocks=config.get("num_single_layers", 38),
        heads=config.get("num_attention_heads", 24),
        head_width=config.get("attention_head_dim", 128),
        text_width=config.get("joint_attention_dim", 4096),
        pooled_width=config.get("pooled_projection_dim", 768),
        guidance=bool(config.get("guidance_embeds", False)),
        axes=tuple(config.get("axes_dims_rope", (16, 56, 56))),
    )
    if config.get("patch_size", 1) != 1:
        raise LoadError("a FLUX transformer with patches of its own is not served")
    if sum(shape.axes) != shape.head_width or len(shape.axes) != 3:
        raise LoadError(f"{shape.axes} positions don't make heads of {shape.head_width}")
    return shape


class FluxTransformer(nn.Module):
    """Tells how latents change, from latents, a prompt and the time."""

    def __init__(self, shape: FluxShape) -> None:
        super().__init__()
        width = shape.width
        self.time_text_embed = Conditioning(shape)
        self.context_embedder = nn.Linear(shape.text_width, width)
        self.x_embedder = nn.Linear(shape.inputs, width)
        self.transformer_blocks = [DoubleBlock(shape) for _ in range(shape.double_blocks)]
        self.single_transformer_blocks = [SingleBlock(shape) for _ in range(shape.single_blocks)]
        self.norm_out = Modulation(width, 2)
        self.proj_out = nn.Linear(width, shape.outputs)

    def pieces(
        self, latents: mx.array, known: Known, time: float
    ) -> Generator[mx.array, None, mx.array]:
        """The change [1, tokens, outputs] of latents [1, tokens, inputs] at a time in 0..1000.

        After each block it yields the hidden states, which may be evaluated then.
        """
        condition = self.time_text_embed(time, known.guidance, known.pooled)
        text = self.context_embedder(known.text)
        image = self.x_embedder(known.beside(latents).astype(text.dtype))
        for block in self.transformer_blocks:
            image, text = block(image, text, condition, known.angles)
            yield image
        hidden = mx.concatenate([text, image], axis=1)
        for single in self.single_transformer_blocks:
            hidden = single(hidden, condition, known.angles)
            yield hidden
        scale, shift = self.norm_out(condition)
        drawn = hidden[:, text.shape[1] : text.shape[1] + latents.shape[1]]
        return self.proj_out(_normed(drawn, shift, scale))


@dataclass(frozen=True, slots=True)
class Known:
    """What stays the same in all steps of a drawing: the prompt, `text` [1, text tokens, text
    width] and `pooled` [1, pooled width]; `angles` of text, latents and references together.

    `references` [1, tokens, inputs] come after the latents, `filling` [1, tokens, numbers] beside
    each of them.
    """

    text: mx.array
    pooled: mx.array
    guidance: float | None
    angles: Angles
    references: mx.array | None = None
    filling: mx.array | None = None

    def beside(self, latents: mx.array) -> mx.array:
        """What the transformer takes for them."""
        if self.filling is not None:
            return mx.concatenate([latents, self.filling], axis=-1)
        if self.references is not None:
            return mx.concatenate([latents, self.references], axis=1)
        return latents


@dataclass(frozen=True, slots=True)
class Angles:
    """How far each token's heads are turned: cosines and sines [tokens, head width / 2]."""

    cosines: mx.array
    sines: mx.array

    def turned(self, vectors: mx.array) -> mx.array:
        """Rotary positions (arXiv:2104.09864), of neighbouring numbers, in float32."""
        pairs = vectors.reshape(*vectors.shape[:-1], -1, 2)
        x, y = pairs[..., 0], pairs[..., 1]
        turned = mx.stack(
            [x * self.cosines - y * self.sines, x * self.sines + y * self.cosines], axis=-1
        )
        return turned.reshape(vectors.shape).astype(vectors.dtype)


def angles_of(places: NDArray[np.int64], axes: tuple[int, ...]) -> Angles:
    """Of tokens at `places` [tokens, axes]."""
    parts = [
        np.outer(places[:, axis], THETA ** -(np.arange(0, width, 2, dtype=np.float64) / width))
        for axis, width in enumerate(axes)
    ]
    angles = np.concatenate(parts, axis=1)
    cosines, sines = np.cos(angles), np.sin(angles)
    return Angles(mx.array(cosines.astype(np.float32)), mx.array(sines.astype(np.float32)))


class Conditioning(nn.Module):
    """The time, the guidance and the gist of the prompt in one vector."""

    def __init__(self, shape: FluxShape) -> None:
        super().__init__()
        self.timestep_embedder = Perceptron(TIME_WIDTH, shape.width)
        if shape.guidance:
            self.guidance_embedder = Perceptron(TIME_WIDTH, shape.width)
        self.text_embedder = Perceptron(shape.pooled_width, shape.width)

    def __call__(self, time: float, guidance: float | None, pooled: mx.array) -> mx.array:
        """Activated, as all modulations read it [1, width]. `time` in 0..1000, `pooled`
        [1, pooled width]."""
        known = self.timestep_embedder(_waves(time).astype(pooled.dtype))
        if guidance is not None:
            waves = _waves(guidance * 1000).astype(pooled.dtype)
            known = known + self.guidance_embedder(waves)
        return silu(known + self.text_embedder(pooled))


def _waves(value: float) -> mx.array:
    """Cosines and sines of ever lower frequencies [1, TIME_WIDTH]."""
    half = TIME_WIDTH // 2
    exponents = np.float32(-math.log(THETA)) * np.arange(half, dtype=np.float32) / half
    angles = np.float32(value) * np.exp(exponents)
    return mx.array(np.append(np.cos(angles), np.sin(angles)))[None]


class Perceptron(nn.Module):
    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(inputs, width)
        self.linear_2 = nn.Linear(width, width)

    def __call__(self, x: mx.array) -> mx.array:
        return self.linear_2(silu(self.linear_1(x)))


class Modulation(nn.Module):
    """What a block shifts, scales and gates by, `count` vectors [width]."""

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, count * width)
        self._count = count

    def __call__(self, condition: mx.array) -> list[mx.array]:
        parts: list[mx.array] = mx.split(self.linear(condition)[0], self._count)
        return parts


def _normed(hidden: mx.array, shift: mx.array, scale: mx.array) -> mx.array:
    return mx.fast.layer_norm(hidden, 1 + scale, shift, EPSILON)


def _bounded(hidden: mx.array) -> mx.array:
    """In half precision large models overflow."""
    if hidden.dtype != mx.float16:
        return hidden
    return mx.clip(hidden, -LARGEST_HALF, LARGEST_HALF)


class DoubleBlock(nn.Module):
    """Latents and text each with weights of their own, which attend to both."""

    def __init__(self, shape: FluxShape) -> None:
        super().__init__()
        self.norm1 = Modulation(shape.width, 6)
        self.norm1_context = Modulation(shape.width, 6)
        self.attn = JointAttention(shape)
        self.ff = FeedForward(shape.width)
        self.ff_context = FeedForward(shape.width)

    def __call__(
        self, image: mx.array, text: mx.array, condition: mx.array, angles: Angles
    ) -> tuple[mx.array, mx.array]:
        ours, theirs = self.norm1(condition), self.norm1_context(condition)
        seen, read = self.attn(_normed(image, *ours[:2]), _normed(text, *theirs[:2]), angles)
        return (
            self._advanced(image, seen, ours[2:], self.ff),
            _bounded(self._advanced(text, read, theirs[2:], self.ff_context)),
        )

    @staticmethod
    def _advanced(
        hidden: mx.array, attended: mx.array, by: list[mx.array], feed_forward: FeedForward
    ) -> mx.array:
        attention_gate, shift, scale, gate = by
        hidden = hidden + attention_gate * attended
        return hidden + gate * feed_forward(_normed(hidden, shift, scale))


class SingleBlock(nn.Module):
    """Text and latents in one sequence; attention and feed-forward side by side."""

    def __init__(self, shape: FluxShape) -> None:
        super().__init__()
        width = shape.width
        self.norm = Modulation(width, 3)
        self.proj_mlp = nn.Linear(width, 4 * width)
        self.proj_out = nn.Linear(5 * width, width)
        self.attn = Attention(shape)

    def __call__(self, hidden: mx.array, condition: mx.array, angles: Angles) -> mx.array:
        shift, scale, gate = self.norm(condition)
        normed = _normed(hidden, shift, scale)
        wide = gelu_tanh(self.proj_mlp(normed))
        both = mx.concatenate([self.attn(normed, angles), wide], axis=-1)
        return _bounded(hidden + gate * self.proj_out(both))


class Projections(nn.Module):
    """What attention reads of latents, or of both in one sequence."""

    def __init__(self, shape: FluxShape) -> None:
        super().__init__()
        self.norm_q = nn.RMSNorm(shape.head_width, eps=EPSILON)
        self.norm_k = nn.RMSNorm(shape.head_width, eps=EPSILON)
        self.to_q = nn.Linear(shape.width, shape.width)
        self.to_k = nn.Linear(shape.width, shape.width)
        self.to_v = nn.Linear(shape.width, shape.width)
        self._heads = shape.heads

    def projected(self, hidden: mx.array) -> Projected:
        return (
            self.norm_q(self.split(self.to_q(hidden))),
            self.norm_k(self.split(self.to_k(hidden))),
            self.split(self.to_v(hidden)),
        )

    def split(self, hidden: mx.array) -> mx.array:
        return hidden.reshape(1, hidden.shape[1], self._heads, -1).transpose(0, 2, 1, 3)


def _attended(parts: Projected, angles: Angles) -> mx.array:
    """[1, tokens, width]"""
    queries, keys, values = parts
    found = attend(angles.turned(queries), angles.turned(keys), values)
    return found.transpose(0, 2, 1, 3).reshape(1, queries.shape[2], -1)


class Attention(Projections):
    def __call__(self, hidden: mx.array, angles: Angles) -> mx.array:
        return _attended(self.projected(hidden), angles)


class JointAttention(Projections):
    def __init__(self, shape: FluxShape) -> None:
        super().__init__(shape)
        width = shape.width
        self.to_out = [nn.Linear(width, width)]
        self.norm_added_q = nn.RMSNorm(shape.head_width, eps=EPSILON)
        self.norm_added_k = nn.RMSNorm(shape.head_width, eps=EPSILON)
        self.add_q_proj = nn.Linear(width, width)
        self.add_k_proj = nn.Linear(width, width)
        self.add_v_proj = nn.Linear(width, width)
        self.to_add_out = nn.Linear(width, width)

    def __call__(
        self, image: mx.array, text: mx.array, angles: Angles
    ) -> tuple[mx.array, mx.array]:
        """What latents and what text attend to."""
        ours, theirs = self.projected(image), self._projected_text(text)
        q, k, v = (mx.concatenate(pair, axis=2) for pair in zip(theirs, ours, strict=True))
        read, seen = mx.split(_attended((q, k, v), angles), [text.shape[1]], axis=1)
        return self.to_out[0](seen), self.to_add_out(read)

    def _projected_text(self, text: mx.array) -> Projected:
        return (
            self.norm_added_q(self.split(self.add_q_proj(text))),
            self.norm_added_k(self.split(self.add_k_proj(text))),
            self.split(self.add_v_proj(text)),
        )


class FeedForward(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = [Widening(width), nn.Identity(), nn.Linear(4 * width, width)]

    def __call__(self, hidden: mx.array) -> mx.array:
        return self.net[2](self.net[0](hidden))


class Widening(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 4 * width)

    def __call__(self, hidden: mx.array) -> mx.array:
        return gelu_tanh(self.proj(hidden))
