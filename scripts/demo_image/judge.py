"""Tell from its pixels whether a picture shows a scene.  Needs nothing but numpy."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .scenes import COLOURS, SIZES, Figure, Scene
from .shapes import SHAPES, Floats, coverage

Mask = npt.NDArray[np.bool_]
#: Differences in RGB that are no shape.
_FAINT = 20.0
#: How far a shape's middle may be off, as a part of the shorter side.
_OFF = 0.07
#: How much of its best fitting shape a region must share (intersection over union).
_LIKE = 0.7
#: The part of the figures' pixels that may lie outside of the regions that are judged.
_CRUMBS = 0.1
_GRID = 32


class Region(NamedTuple):
    """Connected pixels of a picture, and the box around them, ends excluded."""

    mask: Mask
    left: int
    top: int
    right: int
    bottom: int

    @property
    def middle(self) -> tuple[float, float]:
        """The middle of the box, across and down."""
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2

    @property
    def extent(self) -> int:
        """The longer side of the box."""
        return max(self.right - self.left, self.bottom - self.top)


def _region(mask: Mask) -> Region:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return Region(mask, columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)


def name_colour(colour: npt.ArrayLike) -> str:
    """Name the known colour that is nearest to red, green and blue."""
    distances = np.square(np.array(list(COLOURS.values())) - np.asarray(colour)).sum(-1)
    return list(COLOURS)[int(distances.argmin())]


def find_regions(mask: Mask) -> list[Region]:
    """Find the connected regions (by sides) of a mask, the largest first."""
    labels = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    while True:
        around = np.pad(labels, 1)
        spread = np.maximum.reduce(
            [labels, around[:-2, 1:-1], around[2:, 1:-1], around[1:-1, :-2], around[1:-1, 2:]]
        )
        spread = np.where(mask, spread, 0)
        if (spread == labels).all():
            break
        labels = spread
    numbers, counts = np.unique(labels[mask], return_counts=True)
    return [_region(labels == numbers[index]) for index in np.argsort(-counts)]


def _on_grid(region: Region) -> Mask:
    """Stretch what is in a region's box to a small square."""
    across = region.left + (np.arange(_GRID) + 0.5) * (region.right - region.left) / _GRID
    down = region.top + (np.arange(_GRID) + 0.5) * (region.bottom - region.top) / _GRID
    cells: Mask = region.mask[np.ix_(down.astype(int), across.astype(int))]
    return cells


@cache
def _ideal(shape: str) -> Region:
    """Return a shape as it is drawn, of radius 100."""
    return _region(coverage(shape, 256, 256, 128, 128, 100) > 0.5)


def recognise(region: Region) -> tuple[str, float]:
    """Name the shape that a region fits best, and how well: intersection over union."""
    seen = _on_grid(region)
    fits = {}
    for shape in SHAPES:
        ideal = _on_grid(_ideal(shape))
        fits[shape] = float((seen & ideal).sum() / (seen | ideal).sum())
    best = max(fits, key=lambda shape: fits[shape])
    return best, fits[best]


def _size(region: Region, shape: str, side: int) -> str:
    """Name the size, from the extent that each would have."""
    radius = region.extent / _ideal(shape).extent * 100 / side
    return min(SIZES, key=lambda size: abs(float(np.log(radius / SIZES[size]))))


def _misplaced(region: Region, figure: Figure, width: int, height: int) -> bool:
    x, y, radius = figure.place(width, height)
    ideal = _ideal(figure.shape).middle
    x, y = x + (ideal[0] - 128) / 100 * radius, y + (ideal[1] - 128) / 100 * radius
    off = np.abs(np.array(region.middle) - (x, y)).max()
    return bool(off > _OFF * min(width, height))


def _faults(picture: Floats, region: Region, figure: Figure) -> list[str]:
    """List what is wrong with a figure."""
    height, width = picture.shape[:2]
    colour = name_colour(np.median(picture[region.mask], axis=0))
    shape, fit = recognise(region)
    size = _size(region, figure.shape, min(width, height))
    faults = [
        f"{seen} instead of {meant}"
        for seen, meant in ((colour, figure.colour), (shape, figure.shape), (size, figure.size))
        if seen != meant
    ]
    if fit < _LIKE:
        faults.append(f"the {figure.shape} is out of shape ({fit:.2f})")
    if _misplaced(region, figure, width, height):
        faults.append(f"the {figure.shape} is not at the {figure.position}")
    return faults


def _foreground(picture: Floats, scene: Scene) -> Mask:
    """Return what differs from the edges' colour by half as much as a figure should, or does."""
    edges = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    differences = np.linalg.norm(picture - np.median(edges, axis=0), axis=-1)
    background = np.array(COLOURS[scene.background])
    meant = [float(np.linalg.norm(background - COLOURS[f.colour])) for f in scene.figures]
    mask: Mask = differences > max(_FAINT, min(*meant, float(differences.max())) / 2)
    return mask


def judge(picture: npt.NDArray[np.uint8], scene: Scene) -> list[str]:
    """List what is wrong with an RGB picture (height, width, 3) of a scene: nothing, if it fits."""
    pixels = picture.astype(np.float32)
    mask = _foreground(pixels, scene)
    if not mask.any():
        return ["blank"]
    background = name_colour(np.median(pixels[~mask], axis=0))
    faults = [] if background == scene.background else [f"{background} background"]
    regions = find_regions(mask)[: len(scene.figures)]
    if len(regions) < len(scene.figures):
        return [*faults, "a figure is missing"]
    if sum(int(region.mask.sum()) for region in regions) < (1 - _CRUMBS) * mask.sum():
        faults.append("more than what was asked for")
    for figure in scene.figures:
        x, y, _ = figure.place(pixels.shape[1], pixels.shape[0])
        nearest = min(regions, key=lambda r: np.hypot(r.middle[0] - x, r.middle[1] - y))
        faults += _faults(pixels, nearest, figure)
    return faults
