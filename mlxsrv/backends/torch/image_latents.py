"""How each family's latents lie, and how they become pictures and back.

Everywhere else latents are [1, channels, rows, columns], scaled as the noise is that pictures
begin as; a pipeline may want other shapes.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from mlxsrv.core.image import Pixels

PATCH = 2
"""Latent cells along each side of a token."""

TILE = 1024
"""Pixels along a side, beyond which pictures are encoded and decoded in tiles that overlap."""


class Latents:
    """Those of an `AutoencoderKL`; Z-Image works on them as they are."""

    def __init__(self, vae: Any) -> None:
        self.vae = vae
        self.channels, self.cell = self._sizes(vae.config)
        self._arrange()

    def _sizes(self, config: Any) -> tuple[int, int]:
        """Channels, and pixels along a side of a cell."""
        return config.latent_channels, 2 ** (len(config.block_out_channels) - 1)

    def _arrange(self) -> None:
        if self.vae.device.type == "cpu":
            # Convolutions take up to 2.7 times as long in bfloat16 with the channels first.
            self.vae.to(memory_format=torch.channels_last)
        self.vae.use_tiling = True
        self.vae.tile_sample_min_size = TILE
        self.vae.tile_latent_min_size = TILE // self.cell

    def first(self, noise: torch.Tensor) -> torch.Tensor:
        """What the pipeline takes for its `latents`."""
        return self.packed(noise)

    def packed(self, latents: torch.Tensor) -> torch.Tensor:
        """As the steps have them."""
        return latents

    def unpacked(self, latents: torch.Tensor, width: int, height: int) -> torch.Tensor:
        """Of what the steps have for a picture with these sides in pixels."""
        return latents

    def encoded(self, pixels: Pixels) -> torch.Tensor:
        """The likeliest latents of a picture."""
        array = np.ascontiguousarray(pixels.transpose(2, 0, 1))[None]
        picture = torch.from_numpy(array).to(self.vae.device, torch.float32)
        return self._encoded((2.0 * (picture / 255.0) - 1.0).to(self.vae.dtype))

    def decoded(self, latents: torch.Tensor) -> Pixels:
        picture = self._decoded(latents.to(self.vae.dtype))
        shown = (picture * 0.5 + 0.5).clamp(0, 1).float()[0]
        found: Pixels = (shown * 255).round().byte().permute(1, 2, 0).cpu().numpy()
        return found

    def _encoded(self, picture: torch.Tensor) -> torch.Tensor:
        config = self.vae.config
        return (self.vae.encode(picture).latent_dist.mode() - (config.shift_factor or 0)) * (
            config.scaling_factor
        )

    def _decoded(self, latents: torch.Tensor) -> torch.Tensor:
        config = self.vae.config
        plain = latents / config.scaling_factor + (config.shift_factor or 0)
        return self.vae.decode(plain, return_dict=False)[0]


class FluxLatents(Latents):
    """Tokens of FLUX.1: [1, tokens, 4 * channels]."""

    def packed(self, latents: torch.Tensor) -> torch.Tensor:
        return pixel_unshuffle(latents, PATCH).flatten(2).transpose(1, 2)

    def unpacked(self, latents: torch.Tensor, width: int, height: int) -> torch.Tensor:
        side = self.cell * PATCH
        patches = latents.transpose(1, 2).unflatten(2, (height // side, width // side))
        return pixel_shuffle(patches, PATCH)


class Flux2Latents(FluxLatents):
    """FLUX.2: tokens are scaled by what a batch norm has learned of each of their channels."""

    def first(self, noise: torch.Tensor) -> torch.Tensor:
        return pixel_unshuffle(noise, PATCH)

    def _decoded(self, latents: torch.Tensor) -> torch.Tensor:
        norm = self.vae.bn
        mean = norm.running_mean.view(1, -1, 1, 1).to(latents.dtype)
        variance = norm.running_var.view(1, -1, 1, 1) + self.vae.config.batch_norm_eps
        plain = pixel_unshuffle(latents, PATCH) * variance.sqrt().to(latents.dtype) + mean
        return self.vae.decode(pixel_shuffle(plain, PATCH), return_dict=False)[0]


class QwenLatents(FluxLatents):
    """Tokens as FLUX.1's; the VAE is one for videos, of which a picture is the only frame."""

    def _sizes(self, config: Any) -> tuple[int, int]:
        return config.z_dim, 2 ** len(config.temperal_downsample)

    def _arrange(self) -> None:
        self.vae.enable_tiling(TILE, TILE, TILE * 3 // 4, TILE * 3 // 4)

    def _encoded(self, picture: torch.Tensor) -> torch.Tensor:
        mean, deviation = self._scale(picture)
        # It keeps what it is about on itself, where another drawing may be half way.
        mode = copy.copy(self.vae).encode(picture[:, :, None]).latent_dist.mode()
        return ((mode - mean) / deviation)[:, :, 0]

    def _decoded(self, latents: torch.Tensor) -> torch.Tensor:
        mean, deviation = self._scale(latents)
        plain = latents[:, :, None] / (1.0 / deviation) + mean
        return copy.copy(self.vae).decode(plain, return_dict=False)[0][:, :, 0]

    def _scale(self, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        config = self.vae.config
        mean, deviation = (
            torch.tensor(values, device=like.device, dtype=like.dtype).view(1, -1, 1, 1, 1)
            for values in (config.latents_mean, config.latents_std)
        )
        return mean, deviation
