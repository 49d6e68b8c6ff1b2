"""The autoencoder between pictures and latents on MLX: diffusers' AutoencoderKL, of any size.

Modules are called as diffusers names the tensors. Both directions are generators that yield
after each layer what may be evaluated then, so that large pictures take many short slices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray

from mlxsrv.backends.mlx.activations import silu
from mlxsrv.backends.mlx.attention import attend
from mlxsrv.backends.mlx.convolution import convolved
from mlxsrv.backends.mlx.memory import on_cpu
from mlxsrv.backends.mlx.pieces import Pieces
from mlxsrv.core.errors import GenerationFailed, LoadError
from mlxsrv.core.image import Pixels

EPSILON = 1e-6


@dataclass(frozen=True, slots=True)
class VaeShape:
    """`channels` of each resolution, the finest first. Model latents are
    `(latents - shift) * scale`."""

    channels: tuple[int, ...]
    blocks: int
    latents: int
    groups: int
    attention: bool
    quantized: bool
    post_quantized: bool
    scale: float
    shift: float
    side: int

    @property
    def factor(self) -> int:
        """Pixels to a latent, in each direction."""
        return int(2 ** (len(self.channels) - 1))


def vae_shape(config: Mapping[str, Any]) -> VaeShape:
    """Of an AutoencoderKL's config. Raises LoadError for a variant that is not served."""
    channels = tuple(config.get("block_out_channels", (64,)))
    served = {
        "act_fn": "silu",
        "in_channels": 3,
        "out_channels": 3,
        "down_block_types": ["DownEncoderBlock2D"] * len(channels),
        "up_block_types": ["UpDecoderBlock2D"] * len(channels),
    }
    for key, value in served.items():
        if config.get(key, value) != value:
            raise LoadError(f"an autoencoder with {key} = {config[key]} is not served on MLX")
    side = config.get("sample_size", 32)
    return VaeShape(
        channels=channels,
        blocks=config.get("layers_per_block", 1),
        latents=config.get("latent_channels", 4),
        groups=config.get("norm_num_groups", 32),
        attention=config.get("mid_block_add_attention", True),
        quantized=config.get("use_quant_conv", True),
        post_quantized=config.get("use_post_quant_conv", True),
        scale=config.get("scaling_factor", 0.18215),
        shift=config.get("shift_factor") or 0.0,
        side=side if isinstance(side, int) else max(side),
    )


class Vae(nn.Module):
    def __init__(self, shape: VaeShape) -> None:
        super().__init__()
        self.encoder = Encoder(shape)
        self.decoder = Decoder(shape)
        if shape.quantized:
            self.quant_conv = nn.Conv2d(2 * shape.latents, 2 * shape.latents, 1)
        if shape.post_quantized:
            self.post_quant_conv = nn.Conv2d(shape.latents, shape.latents, 1)
        self._shape = shape

    def encode(self, pixels: mx.array) -> Pieces:
        """The likeliest model latents [1, h, w, latents] of pixels [1, height, width, 3] in
        -1..1."""
        moments = yield from self.encoder(pixels.astype(self._dtype))
        if self._shape.quantized:
            moments = self.quant_conv(moments)
        mean = moments[..., : self._shape.latents].astype(mx.float32)
        return (mean - self._shape.shift) * self._shape.scale

    def decode(self, latents: mx.array) -> Pieces:
        """Pixels [1, height, width, 3], about -1..1, of model latents [1, h, w, latents]."""
        plain = latents.astype(mx.float32) / self._shape.scale + self._shape.shift
        hidden = plain.astype(self._dtype)
        if self._shape.post_quantized:
            hidden = self.post_quant_conv(hidden)
        pixels = yield from self.decoder(hidden)
        return pixels.astype(mx.float32)

    @property
    def _dtype(self) -> mx.Dtype:
        return self.decoder.conv_in.weight.dtype


def pixels_of(picture: Pixels) -> mx.array:
    """What `encode` takes."""
    return (mx.array(picture).astype(mx.float32) / 127.5 - 1)[None]


def picture_of(pixels: mx.array) -> Pixels:
    """What `decode` gave. Raises GenerationFailed."""
    found: NDArray[np.float32] = np.array(pixels[0])
    if not np.isfinite(found).all():
        raise GenerationFailed("the picture came out as no numbers at all")
    bounded: Pixels = np.round(np.clip(found / 2 + 0.5, 0, 1) * 255).astype(np.uint8)
    return bounded


class Encoder(nn.Module):
    def __init__(self, shape: VaeShape) -> None:
        super().__init__()
        widths = shape.channels
        self.conv_in = Convolution(3, widths[0])
        self.down_blocks = [
            DownBlock(shape, widths[max(0, place - 1)], width, last=place == len(widths) - 1)
            for place, width in enumerate(widths)
        ]
        self.mid_block = MidBlock(shape)
        self.conv_norm_out = Norm(shape, widths[-1])
        self.conv_out = Convolution(widths[-1], 2 * shape.latents)

    def __call__(self, hidden: mx.array) -> Pieces:
        hidden = self.conv_in(hidden)
        for block in self.down_blocks:
            hidden = yield from block(hidden)
        hidden = yield from self.mid_block(hidden)
        return self.conv_out(silu(self.conv_norm_out(hidden)))


class Decoder(nn.Module):
    def __init__(self, shape: VaeShape) -> None:
        super().__init__()
        widths = shape.channels[::-1]
        self.conv_in = Convolution(shape.latents, widths[0])
        self.mid_block = MidBlock(shape)
        self.up_blocks = [
            UpBlock(shape, widths[max(0, place - 1)], width, last=place == len(widths) - 1)
            for place, width in enumerate(widths)
        ]
        self.conv_norm_out = Norm(shape, widths[-1])
        self.conv_out = Convolution(widths[-1], 3)

    def __call__(self, hidden: mx.array) -> Pieces:
        hidden = self.conv_in(hidden)
        hidden = yield from self.mid_block(hidden)
        for block in self.up_blocks:
            hidden = yield from block(hidden)
        hidden = silu(self.conv_norm_out(hidden))
        yield hidden
        return self.conv_out(hidden)


class DownBlock(nn.Module):
    def __init__(self, shape: VaeShape, inputs: int, width: int, *, last: bool) -> None:
        super().__init__()
        self.resnets = [
            Resnet(shape, width if place else inputs, width) for place in range(shape.blocks)
        ]
        self.downsamplers = [] if last else [Downsampler(width)]

    def __call__(self, hidden: mx.array) -> Pieces:
        layers: list[nn.Module] = [*self.resnets, *self.downsamplers]
        for layer in layers:
            hidden = layer(hidden)
            yield hidden
        return hidden


class UpBlock(nn.Module):
    def __init__(self, shape: VaeShape, inputs: int, width: int, *, last: bool) -> None:
        super().__init__()
        self.resnets = [
            Resnet(shape, width if place else inputs, width) for place in range(shape.blocks + 1)
        ]
        self.upsamplers = [] if last else [Upsampler(width)]

    def __call__(self, hidden: mx.array) -> Pieces:
        layers: list[nn.Module] = [*self.resnets, *self.upsamplers]
        for layer in layers:
            hidden = layer(hidden)
            yield hidden
        return hidden


class MidBlock(nn.Module):
    def __init__(self, shape: VaeShape) -> None:
        super().__init__()
        width = shape.channels[-1]
        self.resnets = [Resnet(shape, width, width) for _ in range(2)]
        self.attentions = [PixelAttention(shape, width)] if shape.attention else []

    def __call__(self, hidden: mx.array) -> Pieces:
        layers: list[nn.Module] = [self.resnets[0], *self.attentions, self.resnets[1]]
        for layer in layers:
            hidden = layer(hidden)
            yield hidden
        return hidden


class Resnet(nn.Module):
    def __init__(self, shape: VaeShape, inputs: int, width: int) -> None:
        super().__init__()
        self.norm1 = Norm(shape, inputs)
        self.conv1 = Convolution(inputs, width)
        self.norm2 = Norm(shape, width)
        self.conv2 = Convolution(width, width)
        if inputs != width:
            self.conv_shortcut = nn.Conv2d(inputs, width, 1)

    def __call__(self, hidden: mx.array) -> mx.array:
        changed = self.conv1(silu(self.norm1(hidden)))
        changed = self.conv2(silu(self.norm2(changed)))
        if "conv_shortcut" in self:
            hidden = self.conv_shortcut(hidden)
        return hidden + changed


class PixelAttention(nn.Module):
    """Every cell attends to all, with one head."""

    def __init__(self, shape: VaeShape, width: int) -> None:
        super().__init__()
        self.group_norm = Norm(shape, width)
        self.to_q = nn.Linear(width, width)
        self.to_k = nn.Linear(width, width)
        self.to_v = nn.Linear(width, width)
        self.to_out = [nn.Linear(width, width)]

    def __call__(self, hidden: mx.array) -> mx.array:
        cells = self.group_norm(hidden).reshape(1, 1, -1, hidden.shape[-1])
        found = attend(self.to_q(cells), self.to_k(cells), self.to_v(cells))
        return hidden + self.to_out[0](found).reshape(hidden.shape)


class Downsampler(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def __call__(self, hidden: mx.array) -> mx.array:
        return self.conv(mx.pad(hidden, [(0, 0), (0, 1), (0, 1), (0, 0)]))


class Upsampler(nn.Module):
    """Every cell becomes 2x2."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = Convolution(width, width)

    def __call__(self, hidden: mx.array) -> mx.array:
        _, height, width, channels = hidden.shape
        cells = hidden.reshape(height, 1, width, 1, channels)
        doubled = mx.broadcast_to(cells, (height, 2, width, 2, channels))
        return self.conv(doubled.reshape(1, 2 * height, 2 * width, channels))


class Norm(nn.GroupNorm):
    def __init__(self, shape: VaeShape, width: int) -> None:
        super().__init__(shape.groups, width, eps=EPSILON, pytorch_compatible=True)

    def __call__(self, hidden: mx.array) -> mx.array:
        """MLX's own moves the groups apart first, which takes most of its time on the CPU."""
        if not on_cpu():
            return super().__call__(hidden)
        centred = hidden - self._means(hidden)
        scales = self.weight * mx.rsqrt(self._means(mx.square(centred)) + self.eps)
        return centred * scales + self.bias

    def _means(self, hidden: mx.array) -> mx.array:
        """The mean of its group, for each channel."""
        means = hidden.reshape(-1, self.dims).mean(axis=0).reshape(self.num_groups, -1)
        return mx.repeat(means.mean(axis=1), self.dims // self.num_groups)


class Convolution(nn.Conv2d):
    """3x3, and as large as what goes in."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1)

    def __call__(self, hidden: mx.array) -> mx.array:
        return convolved(hidden, self.weight, self.bias)
