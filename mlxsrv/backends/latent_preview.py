"""What latents will look like, guessed without their decoder. Pure.

Each latent cell is one pixel, whose colour is a linear map of the cell's channels. The map is
fitted to what the model's own decoder makes of a sample.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlxsrv.backends.noise import noise
from mlxsrv.core.image import Pixels

Floats = NDArray[np.float32]

SAMPLE_SIDE = 16
"""Latent cells of the sample."""
_PATCH = 2
"""Equal cells, so that a cell's colour depends less on its neighbours."""
_RIDGE = 1e-3


@dataclass(frozen=True, slots=True)
class LinearPreview:
    """`matrix` [channels + 1, 3] gives colours in 0..1; its last row is what no channel adds."""

    matrix: Floats

    def picture(self, latents: Floats) -> Pixels:
        """Of latents [channels, height, width], a pixel a cell."""
        channels, height, width = latents.shape
        cells = np.nan_to_num(latents.reshape(channels, -1).T, posinf=0, neginf=0)
        bounded = np.clip(cells @ self.matrix[:-1] + self.matrix[-1], 0, 1)
        pixels: Pixels = np.round(bounded * 255).astype(np.uint8).reshape(height, width, 3)
        return pixels


def sample(channels: int) -> Floats:
    """Latents [channels, SAMPLE_SIDE, SAMPLE_SIDE] to fit with, the same ones every time."""
    side = SAMPLE_SIDE // _PATCH
    patches = noise(0, (channels, side, side))
    latents: Floats = patches.repeat(_PATCH, axis=1).repeat(_PATCH, axis=2)
    return latents


def fit(latents: Floats, pixels: Pixels) -> LinearPreview:
    """From latents [channels, h, w] and the picture that the decoder makes of them, whose sides
    are multiples of theirs."""
    channels, rows, columns = latents.shape
    height, width, _ = pixels.shape
    cells = pixels.reshape(rows, height // rows, columns, width // columns, 3)
    colours = cells.mean(axis=(1, 3)).reshape(-1, 3) / 255
    known = np.append(latents.reshape(channels, -1), np.ones((1, rows * columns)), axis=0)
    damped = known @ known.T + _RIDGE * rows * columns * np.eye(channels + 1)
    matrix = np.linalg.solve(damped, known @ colours).astype(np.float32)
    return LinearPreview(matrix)
