"""What a picture may show, and which combinations are kept out of the training."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from random import Random

from .shapes import SHAPES

#: Red, green and blue of each colour, 0 to 255.
COLOURS = {
    "red": (220, 30, 35),
    "orange": (255, 140, 0),
    "yellow": (255, 225, 40),
    "green": (30, 150, 50),
    "cyan": (60, 215, 225),
    "blue": (30, 70, 215),
    "purple": (125, 40, 165),
    "pink": (255, 150, 195),
    "brown": (125, 75, 35),
    "white": (255, 255, 255),
    "gray": (135, 135, 135),
    "black": (10, 10, 10),
}
#: Half the extent of a shape, as a part of the picture's shorter side.
SIZES = {"small": 0.11, "medium": 0.2, "large": 0.32}
#: Where a shape is, across and down: -1 at the left or top edge, 1 at the right or bottom edge.
POSITIONS = {
    "center": (0, 0),
    "left": (-1, 0),
    "right": (1, 0),
    "top": (0, -1),
    "bottom": (0, 1),
    "top left": (-1, -1),
    "top right": (1, -1),
    "bottom left": (-1, 1),
    "bottom right": (1, 1),
}
#: The gap between a shape and the edge where it is, as a part of the shorter side.
MARGIN = 0.05
#: Of so many combinations one is held out.
_HELD_OUT = 11


@dataclass(frozen=True, slots=True)
class Figure:
    """A shape in a picture."""

    shape: str
    colour: str
    size: str = "medium"
    position: str = "center"

    def place(self, width: int, height: int) -> tuple[float, float, float]:
        """Return where it belongs in a picture of so many pixels: x, y and radius."""
        side = min(width, height)
        radius = SIZES[self.size] * side
        across, down = POSITIONS[self.position]
        room = radius + MARGIN * side
        x, y = width / 2 + across * (width / 2 - room), height / 2 + down * (height / 2 - room)
        return x, y, radius


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture: one figure or two on a background of one colour."""

    background: str
    figures: tuple[Figure, ...]

    @property
    def held_out(self) -> bool:
        """Whether it shows a combination that is kept out of the training."""
        return any(is_held_out(f.shape, f.colour, self.background) for f in self.figures)


def is_held_out(shape: str, colour: str, background: str) -> bool:
    """Tell whether a combination is kept out of the training, in whatever words, size and place."""
    digest = hashlib.sha256(f"{shape}/{colour}/{background}".encode()).digest()
    return int.from_bytes(digest[:4], "big") % _HELD_OUT == 0


@cache
def combinations() -> list[tuple[str, str, str]]:
    """List every shape, colour and background of another colour."""
    return [(s, c, b) for s in SHAPES for c in COLOURS for b in COLOURS if b != c]


def _one(rng: Random) -> Scene:
    shape, colour, background = rng.choice(combinations())
    size = rng.choice(("small", "medium", "medium", "large"))
    position = rng.choice(("center", rng.choice(list(POSITIONS))))
    return Scene(background, (Figure(shape, colour, size, position),))


def _two(rng: Random) -> Scene:
    """Draw two figures beside or above each other."""
    background = rng.choice(list(COLOURS))
    others = [colour for colour in COLOURS if colour != background]
    places = rng.choice((("left", "right"), ("top", "bottom")))
    figures = [Figure(rng.choice(SHAPES), rng.choice(others), "medium", at) for at in places]
    return Scene(background, tuple(figures))


def draw_scene(rng: Random, pairs: float) -> Scene:
    """Draw a scene that may be trained on, with two figures with probability ``pairs``."""
    while True:
        scene = _two(rng) if rng.random() < pairs else _one(rng)
        if not scene.held_out:
            return scene
