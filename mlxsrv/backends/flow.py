"""How far flow-matching models go in each step. Pure.

A picture at sigma s is `s * noise + (1 - s) * picture`; a model tells the direction in which it
changes with s (arXiv:2210.02747), and steps go from the first sigma down to 0. The numbers are
those of diffusers' FlowMatchEulerDiscreteScheduler, as its Flux pipelines use it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlxsrv.core.errors import LoadError

Floats = NDArray[np.float32]

TRAINED_STEPS = 1000
"""Models are told the time in these."""

_SCHEDULER = "FlowMatchEulerDiscreteScheduler"
_OTHER_SCHEDULES = (
    "invert_sigmas",
    "shift_terminal",
    "stochastic_sampling",
    "use_beta_sigmas",
    "use_exponential_sigmas",
    "use_flow_sigmas",
    "use_karras_sigmas",
)


@dataclass(frozen=True, slots=True)
class FlowSchedule:
    """Larger pictures need more of the time at high sigmas (arXiv:2403.03206, section 5.3.2):
    by a fixed `shift`, or where `dynamic` by one between `base_shift` at `base_tokens` and
    `max_shift` at `max_tokens`, on a line that goes on beyond them."""

    shift: float = 1.0
    dynamic: bool = False
    linear: bool = False
    base_shift: float = 0.5
    max_shift: float = 1.15
    base_tokens: int = 256
    max_tokens: int = 4096

    def sigmas(self, steps: int, tokens: int) -> Floats:
        """Those between the steps [steps + 1], falling; the last one is 0.

        `tokens` is how many a picture has.
        """
        even = np.linspace(1.0, 1.0 / steps, steps).astype(np.float32)
        shifted = self._dynamic(even, tokens) if self.dynamic else self._fixed(even)
        return np.append(shifted, np.float32(0)).astype(np.float32)

    def _fixed(self, sigmas: Floats) -> Floats:
        shifted: Floats = self.shift * sigmas / (1 + (self.shift - 1) * sigmas)
        return shifted

    def _dynamic(self, sigmas: Floats, tokens: int) -> Floats:
        slope = (self.max_shift - self.base_shift) / (self.max_tokens - self.base_tokens)
        mu = tokens * slope + self.base_shift - slope * self.base_tokens
        factor = mu if self.linear else math.exp(mu)
        shifted: Floats = (factor / (factor + (1 / sigmas - 1))).astype(np.float32)
        return shifted


def read_schedule(config: Mapping[str, Any]) -> FlowSchedule:
    """Of a scheduler_config.json. Raises LoadError for a schedule of another kind."""
    name = config.get("_class_name", _SCHEDULER)
    if name != _SCHEDULER:
        raise LoadError(f"the scheduler {name} is not served for FLUX.1: it needs {_SCHEDULER}")
    for key in _OTHER_SCHEDULES:
        if config.get(key):
            raise LoadError(f"a schedule with {key} is not served")
    own = FlowSchedule()
    try:
        found = FlowSchedule(
            shift=float(config.get("shift", own.shift)),
            dynamic=bool(config.get("use_dynamic_shifting", own.dynamic)),
            linear=config.get("time_shift_type", "exponential") == "linear",
            base_shift=float(config.get("base_shift", own.base_shift)),
            max_shift=float(config.get("max_shift", own.max_shift)),
            base_tokens=int(config.get("base_image_seq_len", own.base_tokens)),
            max_tokens=int(config.get("max_image_seq_len", own.max_tokens)),
        )
    except (TypeError, ValueError) as error:
        raise LoadError(f"the scheduler's config is damaged: {error}") from error
    if found.shift <= 0 or found.base_tokens == found.max_tokens:
        raise LoadError("the scheduler's config has a shift that means nothing")
    return found


def times(sigmas: Floats) -> Floats:
    """What the model is told of the time before each step [steps], in 0..TRAINED_STEPS."""
    return sigmas[:-1] * np.float32(TRAINED_STEPS)


def first_step(steps: int, strength: float) -> int:
    """The step, counted from 0, from which a picture that exists is drawn again.

    `steps` where nothing is left to do. As diffusers' `get_timesteps` counts, but for few steps:
    with any `strength` less than 1 something of the picture is left.
    """
    first = int(max(steps - min(steps * strength, steps), 0))
    return max(first, 1) if strength < 1 < steps else first
