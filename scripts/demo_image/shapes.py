"""The shapes: what part of each pixel they cover."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

SHAPES = ("circle", "square", "triangle", "star", "diamond", "ring", "cross", "heart")
#: The hole of a ring, as a part of its radius.
_HOLE = 0.55
_ARM = 0.34


def _around(radii: list[float]) -> Floats:
    """Return vertices (count, 2) at equal angles, the first of them at the top."""
    angles = np.arange(len(radii)) * (2 * np.pi / len(radii)) - np.pi / 2
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return np.asarray(points * np.array(radii)[:, None], np.float32)


def _heart() -> Floats:
    """Return the well-known curve x = 16 sin^3 t, fitted into the square from -1 to 1."""
    t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([x / 16, -(y + 2.5) / 15], axis=1).astype(np.float32)


@cache
def _vertices(shape: str) -> Floats:
    """Return the corners (count, 2) of a shape that has some; ``KeyError`` for others."""
    a = _ARM
    quarter = [(a, -1.0), (a, -a), (1.0, -a), (1.0, a), (a, a), (a, 1.0)]
    polygons = {
        "square": np.array([(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)]),
        "triangle": np.array([(0.0, -0.95), (1.0, 0.85), (-1.0, 0.85)]),
        "star": _around([1.08, 0.45] * 5) + np.array([0.0, 0.08]),
        "diamond": np.array([(0.0, -1.08), (0.8, 0.0), (0.0, 1.08), (-0.8, 0.0)]),
        "cross": np.array([*quarter, *((-x, -y) for x, y in quarter)]),
        "heart": _heart(),
    }
    return np.asarray(polygons[shape], np.float32)


def _polygon(corners: Floats, x: Floats, y: Floats) -> Floats:
    """Return the signed distance to a polygon, negative inside (even-odd rule)."""
    nearest = np.full(np.broadcast_shapes(x.shape, y.shape), np.inf, np.float32)
    inside = np.zeros(nearest.shape, bool)
    for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        ex, ey = bx - ax, by - ay
        along = np.clip(((x - ax) * ex + (y - ay) * ey) / (ex * ex + ey * ey), 0, 1)
        np.minimum(nearest, np.hypot(x - ax - ex * along, y - ay - ey * along), out=nearest)
        if ey:
            inside ^= ((y >= ay) != (y >= by)) & (x < ax + ex * (y - ay) / ey)
    return np.where(inside, -nearest, nearest)


def _distance(shape: str, x: Floats, y: Floats) -> Floats:
    """Return the signed distance of points to a shape of radius 1 around the origin."""
    if shape == "circle":
        return np.hypot(x, y) - np.float32(1)
    if shape == "ring":
        middle, half = (1 + _HOLE) / 2, (1 - _HOLE) / 2
        return np.abs(np.hypot(x, y) - np.float32(middle)) - np.float32(half)
    return _polygon(_vertices(shape), x, y)


def coverage(shape: str, width: int, height: int, x: float, y: float, radius: float) -> Floats:
    """Return what part of each pixel (height, width) a shape around (x, y) covers, 0 to 1.

    ``x``, ``y`` and ``radius`` are in pixels; raises ``KeyError`` for an unknown shape.
    """
    out = np.zeros((height, width), np.float32)
    reach = 1.2 * radius + 1
    left, top = max(0, int(x - reach)), max(0, int(y - reach))
    right, bottom = min(width, int(x + reach) + 2), min(height, int(y + reach) + 2)
    across = ((np.arange(left, right) + 0.5 - x) / radius).astype(np.float32)[None, :]
    down = ((np.arange(top, bottom) + 0.5 - y) / radius).astype(np.float32)[:, None]
    distance = _distance(shape, across, down) * np.float32(radius)
    out[top:bottom, left:right] = np.clip(0.5 - distance, 0, 1)
    return out
