"""FLUX.1 on MLX: pictures from prompts, and from pictures."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import mlx.core as mx
import numpy as np

from mlxsrv.backends import flux_layout as layout
from mlxsrv.backends.adapter import Adapter, require
from mlxsrv.backends.base import ModelFacts
from mlxsrv.backends.drawable import require_drawable
from mlxsrv.backends.flow import first_step, times
from mlxsrv.backends.image_options import ImageOptions
from mlxsrv.backends.mlx.facts import facts_of
from mlxsrv.backends.mlx.flux import Known
from mlxsrv.backends.mlx.flux_inputs import Begun, FluxInputs
from mlxsrv.backends.mlx.flux_memory import (
    autoencoder_bytes,
    reading_bytes,
    transformer_bytes,
)
from mlxsrv.backends.mlx.flux_parts import FluxParts
from mlxsrv.backends.mlx.flux_previews import Previews
from mlxsrv.backends.mlx.lora import Adapters
from mlxsrv.backends.mlx.memory import SMALL_BYTES
from mlxsrv.backends.mlx.pieces import Pace, Pieces
from mlxsrv.backends.mlx.vae import picture_of
from mlxsrv.backends.noise import noise
from mlxsrv.core.image import Drawing, DrawingStep, preview_steps


class MlxFluxBackend:
    """Implements `ImageBackend`; see there for the contract."""

    def __init__(self, parts: FluxParts, options: ImageOptions) -> None:
        """Raises LoadError where the decoder for previews is not one for this model."""
        self._parts = parts
        self._seconds = options.slice_seconds
        self._inputs = FluxInputs(parts, options.slice_seconds)
        self._previews = Previews(
            parts.vae, parts.vae_shape.latents, options.preview, options.slice_seconds
        )
        self._itemsize = parts.transformer.proj_out.bias.itemsize
        self._vae_itemsize = parts.vae.decoder.conv_in.bias.itemsize
        self._adapters = Adapters(parts.transformer, batches=False)
        modules = (parts.transformer, parts.vae, *parts.texts.modules)
        self.facts: ModelFacts = facts_of(modules, vocab_size=0)
        self.image = parts.facts

    def working_bytes(self, drawing: Drawing) -> int:
        parts, tokens = self._parts, self._inputs.tokens(drawing)
        size = drawing.height, drawing.width
        reading = reading_bytes(parts.texts.shape, parts.texts.tokens, self._itemsize)
        return SMALL_BYTES + max(
            parts.texts.staged_bytes + reading,
            transformer_bytes(parts.shape, tokens, self._itemsize),
            autoencoder_bytes(parts.vae_shape, *size, self._vae_itemsize),
        )

    def draw(self, drawing: Drawing) -> Iterator[DrawingStep | None]:
        require_drawable(drawing, self.image)
        self._parts.variant.require_inputs(drawing)
        require(drawing.adapter, self._adapters)
        return self._drawn(drawing)

    def _drawn(self, drawing: Drawing) -> Iterator[DrawingStep | None]:
        begins = bool(drawing.images) and self._parts.variant.begins
        first = first_step(drawing.steps, drawing.strength) if begins else 0
        if first == drawing.steps:
            yield DrawingStep(0, 0, picture=drawing.images[0])
            return
        known = yield from self._inputs.known(drawing)
        begun = yield from self._inputs.begun(drawing)
        latents = yield from self._denoised(drawing, known, begun, first)
        decoding = self._parts.vae.decode(self._cells(drawing, latents))
        pixels = yield from Pace(self._seconds).run(decoding)
        steps = drawing.steps - first
        yield DrawingStep(steps, steps, picture=picture_of(pixels))

    def _denoised(
        self, drawing: Drawing, known: Known, begun: Begun | None, first: int
    ) -> Generator[DrawingStep | None, None, mx.array]:
        """The picture's tokens, after the steps from the `first` one on."""
        fresh = self._fresh(drawing)
        sigmas = self._parts.schedule.sigmas(drawing.steps, fresh.shape[1])
        moments, steps = times(sigmas), drawing.steps - first
        shown = preview_steps(steps, drawing.previews)
        latents = fresh if begun is None else _mixed(fresh, begun.latents, sigmas[first])
        pace = Pace(self._seconds)
        for done, at in enumerate(range(first, drawing.steps), start=1):
            pieces = self._parts.transformer.pieces(latents, known, float(moments[at]))
            change = yield from pace.run(self._adapted(pieces, drawing.adapter))
            change = change.astype(mx.float32)
            sigma = sigmas[at + 1]
            latents = latents + float(sigma - sigmas[at]) * change
            if begun is not None and begun.kept is not None:
                latents = mx.where(begun.kept, _mixed(fresh, begun.latents, sigma), latents)
            mx.eval(latents)
            preview = None
            if done in shown:
                guess = self._cells(drawing, latents - float(sigma) * change)
                preview = yield from self._previews.of(guess)
            yield DrawingStep(done, steps, preview)
        return latents

    def _fresh(self, drawing: Drawing) -> mx.array:
        """Tokens of noise alone."""
        shape = self._parts.vae_shape
        sides = drawing.height // shape.factor, drawing.width // shape.factor
        return mx.array(layout.packed(noise(drawing.seed, (shape.latents, *sides))))

    def _cells(self, drawing: Drawing, tokens: mx.array) -> mx.array:
        """Latents [1, h, w, channels] of tokens."""
        factor = self._parts.vae_shape.factor
        cells = layout.unpacked(tokens, drawing.height // factor, drawing.width // factor)
        return cells.transpose(1, 2, 0)[None]

    def _adapted(self, pieces: Pieces, adapter: str | None) -> Pieces:
        """Drawings with other adapters may run between any two pieces."""
        while True:
            self._adapters.use([adapter])
            try:
                piece = next(pieces)
            except StopIteration as end:
                result: mx.array = end.value
                return result
            yield piece

    def add_adapter(self, name: str, adapter: Adapter) -> None:
        self._adapters.add(name, adapter)

    def remove_adapter(self, name: str) -> None:
        self._adapters.remove(name)

    def close(self) -> None:
        self._parts.texts.close()
        del self._parts, self._inputs, self._previews, self._adapters
        mx.clear_cache()


def _mixed(fresh: mx.array, latents: mx.array, sigma: np.float32) -> mx.array:
    """Latents with as much noise as at `sigma`."""
    return float(sigma) * fresh + float(1 - sigma) * latents
