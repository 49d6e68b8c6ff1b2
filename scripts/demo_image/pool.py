"""Pictures to learn from, as latents, drawn and encoded once and kept in a folder."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np
import torch
from diffusers import AutoencoderKL

from .draw import SIDE, draw
from .prompts import describe
from .scenes import Scene, draw_scene
from .vae import CHANNELS, FACTOR, to_tensor

#: Part of the scenes that have two figures.
_PAIRS = 0.15
_BATCH = 32
_SMALL = 2.5


class Size(NamedTuple):
    """A size of pictures: pixels, how many there are, to a batch, and how often one is drawn."""

    width: int
    height: int
    pictures: int
    batch: int
    share: float


SIZES = (
    Size(SIDE, SIDE, 20000, 64, 0.8),
    Size(160, 96, 800, 32, 0.03),
    Size(96, 160, 800, 32, 0.03),
    Size(192, 128, 800, 24, 0.03),
    Size(128, 192, 800, 24, 0.03),
    Size(64, 64, 800, 64, 0.02),
    Size(192, 192, 500, 16, 0.03),
    Size(256, 256, 400, 8, 0.03),
)


def _weight(scene: Scene) -> float:
    """Return how often a scene is drawn: small shapes are the hardest."""
    return _SMALL if any(figure.size == "small" for figure in scene.figures) else 1.0


class Group:
    """The pictures of one size."""

    def __init__(self, size: Size, seed: int) -> None:
        rng = Random(f"{seed} {size.width} {size.height}")
        self.size = size
        self.scenes: list[Scene] = [draw_scene(rng, _PAIRS) for _ in range(size.pictures)]
        self.weights = [_weight(scene) for scene in self.scenes]
        self._rng = rng
        shape = (size.pictures, CHANNELS, size.height // FACTOR, size.width // FACTOR)
        self.latents = torch.empty(shape)

    @torch.no_grad()
    def encode(self, vae: AutoencoderKL) -> None:
        """Draw the pictures and encode them."""
        for first in range(0, len(self.scenes), _BATCH):
            scenes = self.scenes[first : first + _BATCH]
            pictures = [draw(s, self.size.width, self.size.height, self._rng) for s in scenes]
            with torch.autocast("cpu", torch.bfloat16):
                mean = vae.encode(to_tensor(pictures)).latent_dist.mean
            self.latents[first : first + _BATCH] = mean.float()


class Pool:
    """The pictures of every size; ``folder`` keeps the latents between runs."""

    def __init__(self, vae: AutoencoderKL, folder: Path, seed: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.groups = [Group(size, seed) for size in SIZES]
        for group in self.groups:
            path = folder / f"{group.size.width}x{group.size.height}.npy"
            if path.exists():
                group.latents = torch.from_numpy(np.load(path)).float()
            else:
                group.encode(vae)
                np.save(path, group.latents.numpy().astype(np.float16))
        main = self.groups[0].latents
        self.shift, self.scale = float(main.mean()), float(1 / main.std())

    def is_usual(self, latents: torch.Tensor) -> bool:
        """Tell whether latents are of the most frequent size, for which it pays to compile."""
        return latents.shape[2:] == self.groups[0].latents.shape[2:]

    def batch(self, rng: Random) -> tuple[torch.Tensor, list[str]]:
        """Draw a batch of one size: normalised latents, and words for each."""
        group = rng.choices(self.groups, [group.size.share for group in self.groups])[0]
        picked = rng.choices(range(len(group.scenes)), group.weights, k=group.size.batch)
        latents = (group.latents[picked] - self.shift) * self.scale
        return latents, [describe(rng, group.scenes[index]) for index in picked]
