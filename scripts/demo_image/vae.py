"""The autoencoder: its configuration, its pictures, and what counts as a loss."""

from __future__ import annotations

from random import Random

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch.nn import functional as F

from .draw import SIDE, Picture
from .scenes import COLOURS
from .shapes import SHAPES, coverage

#: Pixels to a latent, along a side.
FACTOR = 8
CHANNELS = 8
#: How much more a pixel at an edge counts than one in a plain.
_EDGE = 4.0
_KL = 1e-4
#: The logarithm of the latents' variance that training begins with.
_LOGVAR = -6.0
#: The noise in latents when the decoder is trained alone.
_ROUGH = 0.1


def make_vae() -> AutoencoderKL:
    """Make an untrained autoencoder of FLUX.1's kind, whose latents begin with little noise."""
    vae = AutoencoderKL(
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
    torch.nn.init.constant_(vae.encoder.conv_out.bias[CHANNELS:], _LOGVAR)
    return vae


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


def _differences(drawn: torch.Tensor, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return how far off pictures are as a loss, and in values from 0 to 255."""
    differences = (drawn.float() - pictures).abs()
    loss = (differences * (1 + _EDGE * _edges(pictures))).mean()
    return loss, differences.mean() * 127.5


def loss_of(vae: AutoencoderKL, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss, and the mean difference of a colour value (0 to 255) in it."""
    with torch.autocast("cpu", torch.bfloat16):
        latents = vae.encode(pictures).latent_dist
        drawn = vae.decode(latents.sample()).sample
    mean, logvar = latents.mean.float(), latents.logvar.float()
    kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
    # The first three channels are the mean colour, from which everything else is learned sooner.
    guide = F.mse_loss(mean[:, :3], F.avg_pool2d(pictures, FACTOR))
    loss, off = _differences(drawn, pictures)
    return loss + guide + _KL * kl, off


def decoder_loss(vae: AutoencoderKL, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the same of the decoder alone, from latents as rough as the transformer's."""
    with torch.autocast("cpu", torch.bfloat16):
        with torch.no_grad():
            mean = vae.encode(pictures).latent_dist.mean
        drawn = vae.decode(mean + _ROUGH * torch.randn_like(mean)).sample
    return _differences(drawn, pictures)


@torch.no_grad()
def level(vae: AutoencoderKL, pictures: torch.Tensor) -> None:
    """Scale the latents' channels so that each varies by 1, without a change to what is drawn."""
    spread = vae.encode(pictures).latent_dist.mean.std((0, 2, 3))
    out, inner = vae.encoder.conv_out, vae.decoder.conv_in
    out.weight[:CHANNELS] /= spread.view(-1, 1, 1, 1)
    out.bias[:CHANNELS] /= spread
    out.bias[CHANNELS:] -= 2 * spread.log()
    inner.weight *= spread.view(1, -1, 1, 1)
