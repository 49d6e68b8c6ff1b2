"""Pictures brought to the size that they are needed in."""

from __future__ import annotations

import math

import numpy as np

from mlxsrv.core.image import Mask, Pixels

Size = tuple[int, int]
"""Width and height."""


def nearest_size(size: Size, *, multiple: int, most_pixels: int, most_side: int) -> Size:
    """The size of about the same shape, in multiples and within the bounds."""
    width, height = size
    scale = min(1.0, math.sqrt(most_pixels / (width * height)), most_side / max(size))
    wide, high = (max(1, round(side * scale / multiple)) for side in size)
    most = most_side // multiple
    wide, high = min(wide, most), min(high, most)
    while wide * high * multiple**2 > most_pixels and wide * high > 1:
        wide, high = (wide - 1, high) if wide > high else (wide, high - 1)
    return wide * multiple, high * multiple


def cover(pixels: Pixels, size: Size) -> Pixels:
    """Scaled so that it fills `size`; what stands over at two sides is cut off evenly."""
    from PIL import Image

    image = Image.fromarray(pixels)
    if image.size != size:
        box = _centre(image.size, size)
        image = image.resize(size, Image.Resampling.LANCZOS, box, reducing_gap=2.0)
    return np.asarray(image)


def cover_mask(mask: Mask, size: Size) -> Mask:
    """The same for a mask, so that it stays where it was on its picture."""
    from PIL import Image

    image = Image.fromarray(mask)
    if image.size != size:
        image = image.resize(size, Image.Resampling.BOX, _centre(image.size, size))
    return np.asarray(image).clip(0, 1)


def restored(picture: Pixels, before: Pixels, mask: Mask) -> Pixels:
    """The picture with what the mask keeps as it was before, to the last bit; all of one size."""
    from PIL import Image

    new = Image.fromarray(np.rint(255 * mask).astype(np.uint8))
    return np.asarray(Image.composite(Image.fromarray(picture), Image.fromarray(before), new))


def _centre(size: Size, target: Size) -> tuple[float, float, float, float]:
    """The largest part in the middle that has the target's shape: left, top, right, bottom."""
    scale = min(size[0] / target[0], size[1] / target[1])
    left, top = ((side - scale * wanted) / 2 for side, wanted in zip(size, target, strict=True))
    return max(0.0, left), max(0.0, top), min(size[0], size[0] - left), min(size[1], size[1] - top)
