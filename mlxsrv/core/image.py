"""What is asked of a model that makes pictures, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
"""A picture [height, width, 3]: red, green and blue."""

Mask = NDArray[np.float32]
"""[height, width] in 0..1: 1 where a picture is to be made anew, 0 where it stays."""

HALF = 0.5
"""Of a mask, from which on a pixel is drawn anew."""


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What callers are told of an image model once it has been loaded.

    A request that is silent gets `width` by `height` pixels in `steps` steps; both sides are
    multiples of `multiple`. `guidance` is what holds where a request is silent, None where the
    model heeds none. `negative_prompt` says whether it heeds one. `inputs` is how many pictures
    an edit may start from (0: it makes no edits); with `references` it looks at them and draws
    anew, else the one is what it begins with. `masks`: whether a part can be kept as it is.
    """

    width: int
    height: int
    multiple: int
    steps: int
    guidance: float | None
    negative_prompt: bool
    inputs: int
    references: bool
    masks: bool


@dataclass(frozen=True, slots=True)
class Drawing:
    """One picture to be made. Sides in pixels.

    `images` and `mask` have the drawing's own size where the first is what it begins with; as
    references they have any. Of the `steps`, the last `strength` share is done where it begins
    with a picture: 0 leaves it as it is, 1 draws anew. `previews` are how many pictures of the
    state half way are wanted, evenly spread. `adapter` names a LoRA adapter that was added.
    """

    prompt: str
    width: int
    height: int
    steps: int
    seed: int
    guidance: float | None = None
    negative_prompt: str | None = None
    images: tuple[Pixels, ...] = ()
    mask: Mask | None = None
    strength: float = 0.8
    previews: int = 0
    adapter: str | None = None


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """Pictures to be made, one after the other; the fields are those of `Drawing`.

    Picture i of the `n` is drawn with `seed` + i; None: a seed is drawn, and told.
    """

    prompt: str
    width: int
    height: int
    steps: int
    n: int = 1
    seed: int | None = None
    guidance: float | None = None
    negative_prompt: str | None = None
    images: tuple[Pixels, ...] = ()
    mask: Mask | None = None
    strength: float = 0.8
    previews: int = 0
    adapter: str | None = None

    def drawing(self, seed: int) -> Drawing:
        own = {field.name: getattr(self, field.name) for field in fields(Drawing)}
        return Drawing(**{**own, "seed": seed})


@dataclass(frozen=True, slots=True)
class ImageUpdate:
    """How far picture `index` of a request has come: `done` of `steps`; `seed` is its own.

    `picture` comes with its last update; what a mask keeps is in it as the model sees it, and to
    be put back by whoever sends it. `preview` is what it will look like; where a reader is slow,
    updates in between are left out.
    """

    index: int
    seed: int
    done: int
    steps: int
    preview: Pixels | None = None
    picture: Pixels | None = None


@dataclass(frozen=True, slots=True)
class DrawingStep:
    """How far a picture has come: `done` of `steps`.

    `preview` is what it will look like, smaller than the picture where that is all there is;
    `picture` comes with the last one, after all steps are done.
    """

    done: int
    steps: int
    preview: Pixels | None = None
    picture: Pixels | None = None


def preview_steps(steps: int, previews: int) -> frozenset[int]:
    """After which of the steps, counted from 1, a preview is made: never after the last, whose
    picture follows at once."""
    wanted = min(previews, steps - 1)
    return frozenset(round(steps * place / (wanted + 1)) for place in range(1, wanted + 1))
