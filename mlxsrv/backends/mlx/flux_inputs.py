"""What FLUX.1 is told before the first step: a prompt, and pictures in whatever part they play."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from mlxsrv.backends import flux_layout as layout
from mlxsrv.backends.mlx.flux import Known, angles_of
from mlxsrv.backends.mlx.flux_parts import FluxParts
from mlxsrv.backends.mlx.pieces import Pace
from mlxsrv.backends.mlx.vae import pixels_of
from mlxsrv.backends.reference_pictures import kontext_size, resized
from mlxsrv.core.image import HALF, Drawing, Mask, Pixels

USUAL_SIDE = 1024
"""Of the pictures that published models are made for."""


@dataclass(frozen=True, slots=True)
class Begun:
    """The picture that a drawing begins with: tokens of its latents and, where it has a mask,
    which of their numbers stay [1, tokens, channels]."""

    latents: mx.array
    kept: mx.array | None


class FluxInputs:
    """Those of drawings with one model. One `next` of a generator is one slice."""

    def __init__(self, parts: FluxParts, slice_seconds: float) -> None:
        self._parts = parts
        self._seconds = slice_seconds

    def tokens(self, drawing: Drawing) -> int:
        """How many the transformer works on."""
        places = [layout.text_places(self._parts.texts.tokens), *self._places(drawing)]
        return sum(map(len, places))

    def known(self, drawing: Drawing) -> Generator[None, None, Known]:
        parts = self._parts
        prompt = yield from parts.texts.encode(drawing.prompt)
        references = filling = None
        if parts.variant.references and drawing.images:
            references = yield from self._encoded(self._shown(drawing.images[0]))
        if parts.variant.fills:
            filling = yield from self._filling(drawing)
        places = [layout.text_places(parts.texts.tokens), *self._places(drawing)]
        return Known(
            text=prompt.text,
            pooled=prompt.pooled,
            guidance=self._guidance(drawing),
            angles=angles_of(np.concatenate(places), parts.shape.axes),
            references=references,
            filling=filling,
        )

    def begun(self, drawing: Drawing) -> Generator[None, None, Begun | None]:
        if not (drawing.images and self._parts.variant.begins):
            return None
        latents = yield from self._encoded(drawing.images[0])
        return Begun(latents, None if drawing.mask is None else self._kept(drawing.mask))

    def _guidance(self, drawing: Drawing) -> float | None:
        usual = self._parts.facts.guidance
        return usual if usual is None or drawing.guidance is None else drawing.guidance

    def _places(self, drawing: Drawing) -> list[layout.Places]:
        """Of the drawing, and of what is shown."""
        factor = self._parts.vae_shape.factor
        sizes = [(drawing.height, drawing.width)]
        if self._parts.variant.references:
            sizes += [self._shown_size(picture) for picture in drawing.images]
        return [
            layout.picture_places(height // factor, width // factor, picture)
            for picture, (height, width) in enumerate(sizes)
        ]

    def _shown_size(self, picture: Pixels) -> tuple[int, int]:
        """Height and width in which the model sees it: the usual ones know certain sizes only."""
        height, width, _ = picture.shape
        facts = self._parts.facts
        if facts.width >= USUAL_SIDE:
            width, height = kontext_size(width, height)
        multiple = facts.multiple
        return max(1, height // multiple) * multiple, max(1, width // multiple) * multiple

    def _shown(self, picture: Pixels) -> Pixels:
        height, width = self._shown_size(picture)
        return resized(picture, width, height)

    def _encoded(self, picture: Pixels) -> Generator[None, None, mx.array]:
        return (yield from self._tokens(pixels_of(picture)))

    def _tokens(self, pixels: mx.array) -> Generator[None, None, mx.array]:
        latents = yield from Pace(self._seconds).run(self._parts.vae.encode(pixels))
        return layout.packed(latents[0].transpose(2, 0, 1))

    def _filling(self, drawing: Drawing) -> Generator[None, None, mx.array]:
        """What the model is told of a picture with a hole [1, tokens, numbers]."""
        assert drawing.mask is not None
        hole = drawing.mask >= HALF
        grey = mx.where(mx.array(hole)[None, :, :, None], 0.0, pixels_of(drawing.images[0]))
        latents = yield from self._tokens(grey)
        cells = layout.holes(hole, self._parts.vae_shape.factor)
        return mx.concatenate([latents, mx.array(layout.packed(cells))], axis=-1)

    def _kept(self, mask: Mask) -> mx.array:
        cells = layout.kept(mask, self._parts.vae_shape.factor)
        every = np.broadcast_to(cells, (self._parts.vae_shape.latents, *cells.shape))
        return mx.array(layout.packed(every))
