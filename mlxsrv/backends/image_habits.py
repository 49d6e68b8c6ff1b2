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


FLUX1 = Habits(28, 3.5)
FLUX1_KONTEXT = Habits(28, 2.5)
FLUX1_FILL = Habits(50, 30.0)
QWEN_IMAGE = Habits(50, 4.0, negative_prompt=True)
QWEN_IMAGE_EDIT_PLUS = Habits(40, 4.0, negative_prompt=True)

_DISTILLED = Habits(4, None)
"""Of models that were taught to need few steps and no guidance."""

FLUX1_TOKENS = 512
_FLUX1_DISTILLED_TOKENS = 256


def flux1(own: Habits, *, guided: bool) -> Habits:
    """Of FLUX.1, whose own habits are those of a model with guidance."""
    return own if guided else _DISTILLED


def flux1_tokens(*, guided: bool) -> int:
    """That T5 reads of a prompt at most, as FLUX.1 was trained."""
    return FLUX1_TOKENS if guided else _FLUX1_DISTILLED_TOKENS


def klein(index: Mapping[str, Any]) -> Habits:
    """Of FLUX.2 klein, by its `model_index.json`."""
    return _DISTILLED if index.get("is_distilled") else Habits(50, 4.0)


def z_image(scheduler: Mapping[str, Any]) -> Habits:
    """Of Z-Image, by its `scheduler_config.json`."""
    turbo = scheduler.get("shift", 3.0) < _BASE_SHIFT
    return Habits(8, None) if turbo else Habits(50, 4.0, negative_prompt=True)
