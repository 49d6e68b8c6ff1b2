"""Draw a scene."""

from __future__ import annotations

from random import Random

import numpy as np
import numpy.typing as npt

from .scenes import COLOURS, Scene
from .shapes import coverage

Picture = npt.NDArray[np.uint8]
#: The side of the picture that is drawn when no size is asked for.
SIDE = 128
#: How far a place and a size may be off, as a part of the shorter side and of the radius.
_OFF, _GROWN = 0.02, 0.06


def draw(scene: Scene, width: int, height: int, rng: Random | None = None) -> Picture:
    """Draw a scene as RGB (height, width, 3); with ``rng``, places and sizes are a little off."""
    picture = np.empty((height, width, 3), np.float32)
    picture[:] = COLOURS[scene.background]
    for figure in scene.figures:
        x, y, radius = figure.place(width, height)
        if rng:
            off = _OFF * min(width, height)
            x, y = x + rng.uniform(-off, off), y + rng.uniform(-off, off)
            radius *= 1 + rng.uniform(-_GROWN, _GROWN)
        covered = coverage(figure.shape, width, height, x, y, radius)[:, :, None]
        picture += covered * (np.array(COLOURS[figure.colour], np.float32) - picture)
    return (picture + 0.5).astype(np.uint8)
