"""In which size a model looks at the pictures that it is given."""

from __future__ import annotations

import numpy as np
from PIL import Image

from mlxsrv.core.image import Pixels

_KONTEXT_SIDES = (672, 688, 720, 752, 800, 832, 880, 944, 1024)
_KONTEXT_OTHER_SIDES = (1568, 1504, 1456, 1392, 1328, 1248, 1184, 1104, 1024)


def kontext_size(width: int, height: int) -> tuple[int, int]:
    """The size that FLUX.1 Kontext was trained with whose shape is nearest."""
    tall = list(zip(_KONTEXT_SIDES, _KONTEXT_OTHER_SIDES, strict=True))
    wide = [(long, short) for short, long in tall]
    return min(tall + wide, key=lambda size: (abs(width / height - size[0] / size[1]), size))


def resized(picture: Pixels, width: int, height: int) -> Pixels:
    if picture.shape[:2] == (height, width):
        return picture
    image = Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS)
    pixels: Pixels = np.asarray(image)
    return pixels
