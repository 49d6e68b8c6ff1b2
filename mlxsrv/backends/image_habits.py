"""How pictures are drawn where a request is silent, as each model's card tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_BASE_SHIFT = 5.0
"""The schedule of Z-Image has a shift of 6, that of Z-Image-Turbo one of 3."""


@dataclass(frozen=True, slots=True)
class Habits:
    """`guidance` is None where none is heeded; whether a negative prompt is."""

    steps: int
    guidance: float | None
    negative_prompt: bool = False


QWEN_IMAGE = Habits(50, 4.0, negative_prompt=True)
QWEN_IMAGE_EDIT_PLUS = Habits(40, 4.0, negative_prompt=True)


def klein(index: Mapping[str, Any]) -> Habits:
    """Of FLUX.2 klein, by its `model_index.json`."""
    return Habits(4, None) if index.get("is_distilled") else Habits(50, 4.0)


def z_image(scheduler: Mapping[str, Any]) -> Habits:
    """Of Z-Image, by its `scheduler_config.json`."""
    turbo = scheduler.get("shift", 3.0) < _BASE_SHIFT
    return Habits(8, None) if turbo else Habits(50, 4.0, negative_prompt=True)
