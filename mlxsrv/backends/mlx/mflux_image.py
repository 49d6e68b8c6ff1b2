"""Image models that mflux draws: FLUX.2 klein, Z-Image and Qwen-Image. Made for macOS.

It draws the noise that pictures begin as by itself, so a seed means another picture than on torch.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np
from tqdm import tqdm

from mlxsrv.backends.adapter import Adapter, require
from mlxsrv.backends.base import ModelFacts
from mlxsrv.backends.checkpoint import Checkpoint
from mlxsrv.backends.drawable import require_drawable, require_picture
from mlxsrv.backends.flow import first_step
from mlxsrv.backends.image_options import ImageOptions
from mlxsrv.backends.latent_preview import LinearPreview, fit, sample
from mlxsrv.backends.mlx.encoder_load import loading_errors
from mlxsrv.backends.mlx.facts import facts_of
from mlxsrv.backends.mlx.lora import Adapters
from mlxsrv.backends.mlx.mflux_families import (
    FAMILIES,
    Arguments,
    Family,
    Models,
    transformer_width,
)
from mlxsrv.backends.mlx.mflux_run import Callbacks, Run
from mlxsrv.backends.mlx.taef1 import Taef1, load_taef1
from mlxsrv.backends.mlx.weights import read_weights
from mlxsrv.core.errors import LoadError
from mlxsrv.core.image import Drawing, DrawingStep, ImageFacts, Pixels, preview_steps

LATENTS_OF_FLUX1 = 16

_KEPT_PROMPTS = 4

_MOST_SHOWN_PIXELS = 1024 * 1024
"""Of a picture that is looked at, which is made smaller before."""

_PROMPT_TOKENS = 512
_PER_TOKEN = 12
"""Arrays as wide as the transformer that a token takes in one of its blocks."""
_PER_PIXEL = 128 * 3
"""Numbers that the decoder holds of a pixel at its widest."""


class MfluxBackend:
    """Implements `ImageBackend`; see there for the contract."""

    def __init__(self, family: Family, models: Models, folder: Path, decoder: Taef1 | None) -> None:
        self._family = family
        self._models = models
        self._decoder = decoder
        self._linear: LinearPreview | None = None
        self._adapters = Adapters(models.plain.transformer, batches=False)
        models.plain.callbacks.register(Callbacks())
        self.facts: ModelFacts = facts_of(models.parts, vocab_size=0)
        self.image: ImageFacts = family.facts(folder)
        self._width = transformer_width(folder)

    def working_bytes(self, drawing: Drawing) -> int:
        pixels = drawing.width * drawing.height
        shown = len(drawing.images) * _MOST_SHOWN_PIXELS if self.image.references else 0
        tokens = _PROMPT_TOKENS + (pixels + shown) // self.image.multiple**2
        return 2 * max(tokens * self._width * _PER_TOKEN, pixels * _PER_PIXEL)

    def draw(self, drawing: Drawing) -> Iterator[DrawingStep | None]:
        require_drawable(drawing, self.image)
        require(drawing.adapter, self._adapters)
        if self._family.needs_picture:
            require_picture(drawing)
        usual = self.image.guidance
        guidance = usual if usual is None or drawing.guidance is None else drawing.guidance
        return self._drawn(replace(drawing, guidance=guidance))

    def _drawn(self, drawing: Drawing) -> Iterator[DrawingStep | None]:
        begins = bool(drawing.images) and not self.image.references
        first = first_step(drawing.steps, drawing.strength) if begins else 0
        if first == drawing.steps:
            yield DrawingStep(0, 0, picture=drawing.images[0])
            return
        steps = drawing.steps - first
        run = Run(
            lambda: DrawingStep(steps, steps, picture=self._picture(drawing, first)),
            steps,
            preview_steps(steps, drawing.previews),
            lambda latents: self._previewed(drawing, latents),
        )
        try:
            yield from run.slices(lambda: self._adapters.use([drawing.adapter]))
        finally:
            self._forget_prompts()

    def _forget_prompts(self) -> None:
        """mflux would keep all that it ever read."""
        kept = getattr(self._models.plain, "prompt_cache", {})
        if len(kept) > _KEPT_PROMPTS:
            kept.clear()

    def _picture(self, drawing: Drawing, first: int) -> Pixels:
        looks = bool(drawing.images) and self.image.references
        model = self._models.edit if looks else self._models.plain
        made = model.generate_image(**arguments(self._family, drawing, first))
        return np.asarray(made.image.convert("RGB"))

    def _previewed(self, drawing: Drawing, latents: mx.array) -> Iterator[Pixels | None]:
        cells = self._family.cells(self._models.plain.vae, latents, drawing).astype(mx.float32)
        if self._decoder is not None:
            yield from self._decoder.slices(cells.transpose(0, 2, 3, 1))
            return
        if self._linear is None:
            self._linear = self._fitted(cells.shape[1])
            yield None
        yield self._linear.picture(np.array(cells[0]))

    def _fitted(self, channels: int) -> LinearPreview:
        from mflux.models.common.vae.vae_util import VAEUtil
        from mflux.utils.image_util import ImageUtil

        latents = sample(channels)
        decoded = VAEUtil.decode(vae=self._models.plain.vae, latent=mx.array(latents)[None])
        return fit(latents, np.asarray(ImageUtil.to_pil(decoded)))

    def add_adapter(self, name: str, adapter: Adapter) -> None:
        renamed = {self._own_path(path): layer for path, layer in adapter.layers.items()}
        self._adapters.add(name, Adapter(adapter.folder, renamed))

    def _own_path(self, path: str) -> str:
        for theirs, own in self._family.renamed.items():
            if path.endswith(theirs):
                return path.removesuffix(theirs) + own
        return path

    def remove_adapter(self, name: str) -> None:
        self._adapters.remove(name)

    def close(self) -> None:
        del self._models, self._adapters, self._decoder, self._linear
        mx.clear_cache()


def arguments(family: Family, drawing: Drawing, first: int) -> Arguments:
    """What `generate_image` takes for a drawing whose first steps are left out."""
    return {
        "seed": drawing.seed % 2**64,
        "prompt": drawing.prompt,
        "num_inference_steps": drawing.steps,
        "height": drawing.height,
        "width": drawing.width,
        **family.arguments(drawing, first),
    }


def load_mflux(checkpoint: Checkpoint, options: ImageOptions) -> Generator[int, None, MfluxBackend]:
    """Loads a diffusers folder; yields the bytes read so far. Raises LoadError."""
    family, folder = FAMILIES[checkpoint.model_type], checkpoint.folder
    _require_possible(family, checkpoint, options)
    decoder = None
    if options.preview is not None:
        decoder = load_taef1(options.preview, LATENTS_OF_FLUX1)
    yield 0
    with loading_errors(folder):
        _without_bars()
        models = family.load(folder, options.quantize)
        read = 0
        for part in models.parts:
            for here in read_weights(part):
                yield read + here
            read += here
    return MfluxBackend(family, models, folder, decoder)


def _require_possible(family: Family, checkpoint: Checkpoint, options: ImageOptions) -> None:
    if importlib.util.find_spec("mflux") is None:
        raise LoadError(
            f"{checkpoint.model_type} is drawn by mflux on the MLX backend, which is installed on "
            "macOS: use --backend torch"
        )
    if options.staged:
        raise LoadError(
            f"{checkpoint.folder.name} only fits without its text encoders, which mflux keeps in "
            "memory: pack its weights with quantize = 4"
        )
    if options.preview is not None and not family.taef1:
        raise LoadError(
            f"{options.preview} decodes latents of FLUX.1, and those of {checkpoint.model_type} "
            "are others: leave preview out"
        )


def _without_bars() -> None:
    """mflux would draw progress bars into the server's log."""
    from mflux.models.common.config import config
    from mflux.models.qwen.variants.edit import qwen_image_edit

    config.tqdm = qwen_image_edit.tqdm = functools.partial(tqdm, disable=True)
