"""Image models: from a loaded backend to a model."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from mlxsrv.backends.base import ImageBackend
from mlxsrv.backends.device import Device
from mlxsrv.backends.image_options import ImageOptions
from mlxsrv.backends.load import free
from mlxsrv.backends.select import Backend
from mlxsrv.config.settings import ApiSettings, EngineSettings, ModelSettings, Settings
from mlxsrv.core.errors import LoadError
from mlxsrv.core.image import ImageFacts
from mlxsrv.core.meters import ImageMeters
from mlxsrv.engines.image import ImageEngine
from mlxsrv.engines.memory import MemoryBudget
from mlxsrv.engines.model import ImageModel


def options_of(
    name: str, own: ModelSettings, backend: Backend, limits: EngineSettings, *, staged: bool
) -> ImageOptions:
    """How a model is to be held. Raises LoadError for what this backend can't do."""
    if own.quantize is not None and backend != "mlx":
        raise LoadError(f"{name}: quantize: weights are packed on the mlx backend only")
    return ImageOptions(staged, own.quantize, own.preview, limits.slice_ms / 1000)


async def load_image(
    name: str,
    backend: ImageBackend,
    own: ModelSettings,
    settings: Settings,
    device: Device,
    *,
    memory: MemoryBudget,
    on_short: Callable[[int], None] = lambda nbytes: None,
    meters: ImageMeters | None = None,
) -> ImageModel:
    """Makes a model of a backend that is loaded; the last three are the engine's.

    Raises LoadError.
    """
    try:
        facts = defaults(name, backend.image, own, settings.api)
    except LoadError:
        await device.call(lambda: _free(backend), kind="unload")
        raise
    engine = ImageEngine(
        device,
        backend,
        max_queue=settings.api.max_queue,
        memory=memory,
        on_short=on_short,
        meters=meters,
    )
    return ImageModel(name, engine, backend.facts, facts)


def defaults(name: str, facts: ImageFacts, own: ModelSettings, bounds: ApiSettings) -> ImageFacts:
    """The model's facts with what its configuration says instead, inside the server's bounds.

    Raises LoadError where the configuration asks for what the model or the server does not allow.
    """
    width, height = (
        _bounded(facts, bounds)
        if own.default_size is None
        else _configured_size(name, own.default_size, facts, bounds)
    )
    if own.steps is not None and own.steps > bounds.max_image_steps:
        raise LoadError(f"{name}: steps: more than max_image_steps, {bounds.max_image_steps}")
    if own.guidance is not None and facts.guidance is None:
        raise LoadError(f"{name}: guidance: this model heeds none")
    return replace(
        facts,
        width=width,
        height=height,
        steps=own.steps or min(facts.steps, bounds.max_image_steps),
        guidance=facts.guidance if own.guidance is None else own.guidance,
    )


def _configured_size(
    name: str, text: str, facts: ImageFacts, bounds: ApiSettings
) -> tuple[int, int]:
    width, height = map(int, text.split("x"))
    each = facts.multiple
    if not width or not height or width % each or height % each:
        raise LoadError(f"{name}: default_size: sides have to be multiples of {each}, not {text}")
    if max(width, height) > bounds.max_image_side or width * height > bounds.max_image_pixels:
        raise LoadError(
            f"{name}: default_size: {text} is more than max_image_side, {bounds.max_image_side}, "
            f"or max_image_pixels, {bounds.max_image_pixels}, allow"
        )
    return width, height


def _bounded(facts: ImageFacts, bounds: ApiSettings) -> tuple[int, int]:
    """The model's own size, made smaller in proportion where the server does not allow it."""
    sides = facts.width, facts.height
    shrink = min(
        1.0,
        bounds.max_image_side / max(sides),
        math.sqrt(bounds.max_image_pixels / (facts.width * facts.height)),
    )
    width, height = (
        max(1, int(side * shrink) // facts.multiple) * facts.multiple for side in sides
    )
    return width, height


def _free(backend: ImageBackend) -> None:
    backend.close()
    free(backend.facts.backend)
