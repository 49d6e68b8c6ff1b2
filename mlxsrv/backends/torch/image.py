"""Drawing pictures on torch, with diffusers' pipelines."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import diffusers
import transformers
from torch import nn

from mlxsrv.backends.adapter import Adapter, require
from mlxsrv.backends.base import ImageBackend, ModelFacts
from mlxsrv.backends.checkpoint import Checkpoint
from mlxsrv.backends.drawable import require_drawable
from mlxsrv.backends.flow import first_step
from mlxsrv.backends.image_options import ImageOptions
from mlxsrv.backends.torch.image_drawing import Studio, Work
from mlxsrv.backends.torch.image_families import Parts, family_of
from mlxsrv.backends.torch.image_memory import working_bytes
from mlxsrv.backends.torch.image_parts import Folder
from mlxsrv.backends.torch.image_preview import Previews
from mlxsrv.backends.torch.image_prompts import Prompts
from mlxsrv.backends.torch.image_slices import in_slices
from mlxsrv.backends.torch.lora import Adapters
from mlxsrv.backends.torch.precision import threads_for, use_threads
from mlxsrv.core.image import Drawing, DrawingStep


class TorchImageBackend:
    """Implements `ImageBackend`; see there for the contract."""

    def __init__(self, studio: Studio, weight_bytes: int, slice_seconds: float) -> None:
        self._studio = studio
        self._slice_seconds = slice_seconds
        self._weight_bytes = weight_bytes
        self._adapters = Adapters(studio.parts.components["transformer"], reads_tokens=False)
        self.image = studio.family.facts(studio.parts, studio.latents)
        self.facts = ModelFacts(
            backend="torch",
            vocab_size=0,
            memory_bytes=sum(map(_bytes, studio.parts.components.values())),
            dtype=str(studio.dtype).removeprefix("torch."),
        )

    def working_bytes(self, drawing: Drawing) -> int:
        studio = self._studio
        return working_bytes(
            studio.parts,
            studio.latents,
            drawing,
            references=studio.family.references,
            itemsize=studio.dtype.itemsize,
        )

    def draw(self, drawing: Drawing) -> Iterator[DrawingStep | None]:
        require_drawable(drawing, self.image)
        self._studio.family.require_inputs(drawing)
        require(drawing.adapter, self._adapters)
        guidance = self.image.guidance if drawing.guidance is None else drawing.guidance
        return self._drawn(replace(drawing, guidance=guidance))

    def _drawn(self, drawing: Drawing) -> Iterator[DrawingStep | None]:
        begins = drawing.images and self._studio.family.begins
        first = first_step(drawing.steps, drawing.strength) if begins else 0
        if first == drawing.steps:
            yield DrawingStep(0, 0, picture=drawing.images[0])
            return
        yield from in_slices(
            Work(self._studio, drawing, first),
            partial(self._prepare, drawing),
            device=self._studio.device,
            seconds=self._slice_seconds,
        )

    def _prepare(self, drawing: Drawing) -> None:
        use_threads(threads_for(self._weight_bytes))
        self._adapters.use((drawing.adapter,))

    def add_adapter(self, name: str, adapter: Adapter) -> None:
        self._adapters.add(name, adapter)

    def remove_adapter(self, name: str) -> None:
        self._adapters.remove(name)

    def close(self) -> None:
        del self._studio, self._adapters


def import_parts(checkpoint: Checkpoint) -> None:
    """Imports what a checkpoint is made of. Raises LoadError."""
    family_of(checkpoint.model_type)
    folder = Folder(checkpoint)
    folder.import_classes()
    _pipeline(folder, checkpoint.model_type)


def load_image(checkpoint: Checkpoint, options: ImageOptions) -> Generator[int, None, ImageBackend]:
    """Loads a diffusers folder as it is, whatever `quantize` says, and yields the bytes in place
    after each part. Raises LoadError.
    """
    family = family_of(checkpoint.model_type)
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.set_verbosity_error()
    folder = Folder(checkpoint)
    scheduler = folder.scheduler()
    components: dict[str, Any] = {}
    placed = 0
    yield placed
    for name in folder.names:
        staged = options.staged and name in folder.encoders
        components[name] = None if staged else folder.load(name)
        placed += _bytes(components[name])
        yield placed
    parts = Parts(
        components,
        folder.index,
        scheduler,
        encoders=[folder.config(name) for name in folder.encoders],
        staged_bytes=folder.encoder_bytes() if options.staged else 0,
    )
    latents = family.latents(components["vae"])
    studio = Studio(
        pipeline=_pipeline(folder, checkpoint.model_type),
        family=family,
        parts=parts,
        latents=latents,
        prompts=Prompts(folder, components),
        previews=Previews(latents, options.preview),
        device=folder.device,
        dtype=folder.dtype,
    )
    return TorchImageBackend(studio, checkpoint.weight_bytes, options.slice_seconds)


def _pipeline(folder: Folder, name: str) -> Callable[..., Any]:
    kind = getattr(diffusers, name)
    known = inspect.signature(kind.__init__).parameters
    return partial(kind, **{key: folder.settings[key] for key in folder.settings if key in known})


def _bytes(part: object) -> int:
    return sum(p.nbytes for p in part.parameters()) if isinstance(part, nn.Module) else 0
