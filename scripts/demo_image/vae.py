"""The autoencoder: its configuration, its pictures, and what counts as a loss."""

from __future__ import annotations

from random import Random

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch.nn import functional as F

from .draw import Picture
from .scenes import COLOURS
from .shapes import SHAPES, coverage

#: The side of the picture that is drawn when no size is asked for.
SIDE = 128
#: Pixels to a latent, along a side.
FACTOR = 8
CHANNELS = 8
#: How much more a pixel at an edge counts than one in a plain.
_EDGE = 4.0
_KL = 3e-4


def make_vae() -> AutoencoderKL:
    """Make an untrained autoencoder of FLUX.1's kind."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 64),
        layers_per_block=1,
        latent_channels=CHANNELS,
        norm_num_groups=8,
        sample_size=SIDE,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def to_tensor(pictures: list[Picture]) -> torch.Tensor:
    """Return RGB pictures of one size as (batch, 3, height, width), from -1 to 1."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def _colour(rng: Random) -> tuple[int, int, int]:
    """Draw a colour: mostly one that has a name, since a picture to edit may have any."""
    if rng.random() < 0.75:
        return rng.choice(list(COLOURS.values()))
    return rng.randrange(256), rng.randrange(256), rng.randrange(256)


def scribble(rng: Random, side: int) -> Picture:
    """Draw up to three shapes anywhere, also over the edge, in a square of so many pixels."""
    picture = np.empty((side, side, 3), np.float32)
    picture[:] = _colour(rng)
    for _ in range(rng.choice((1, 1, 2, 3))):
        x, y = rng.uniform(0, side), rng.uniform(0, side)
        covered = coverage(rng.choice(SHAPES), side, side, x, y, rng.uniform(12, 45))[..., None]
        picture += covered * (np.array(_colour(rng), np.float32) - picture)
    return (picture + 0.5).astype(np.uint8)


def _edges(pictures: torch.Tensor) -> torch.Tensor:
    """Return where neighbouring pixels differ, two pixels wide: (batch, 1, height, width)."""
    spread = F.max_pool2d(pictures, 5, 1, 2) + F.max_pool2d(-pictures, 5, 1, 2)
    return (spread.amax(1, keepdim=True) > 0.1).float()


def loss_of(vae: AutoencoderKL, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss, and the mean difference of a colour value (0 to 255) in it."""
    with torch.autocast("cpu", torch.bfloat16):
        latents = vae.encode(pictures).latent_dist
        drawn = vae.decode(latents.sample()).sample
    mean, logvar = latents.mean.float(), latents.logvar.float()
    kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
    differences = (drawn.float() - pictures).abs()
    loss = (differences * (1 + _EDGE * _edges(pictures))).mean()
    return loss + _KL * kl, differences.mean() * 127.5
