"""The schedule by which pictures are made, which may begin late and tells of every step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

StepEnd = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""Takes latents after a step, the direction in which they change with sigma, and their sigma;
gives the latents that the next step begins with."""


class Schedule(FlowMatchEulerDiscreteScheduler):
    """diffusers' own, whose `first` steps are left out."""

    first: int = 0
    step_end: StepEnd | None = None

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: Any = None,
        sigmas: Any = None,
        mu: float | None = None,
        timesteps: Any = None,
    ) -> None:
        super().set_timesteps(num_inference_steps, device, sigmas, mu, timesteps)
        left = slice(self.first, None)
        self.timesteps: torch.Tensor = self.timesteps[left]
        self.sigmas: torch.Tensor = self.sigmas[left]

    def stretch_shift_to_terminal(self, t: Any) -> Any:
        """A single step has no end to stretch."""
        return t if t[-1] == 1 else super().stretch_shift_to_terminal(t)

    def step(
        self, model_output: torch.Tensor, timestep: Any, sample: torch.Tensor, **kwargs: Any
    ) -> Any:
        found = super().step(model_output, timestep, sample, **kwargs)
        if self.step_end is None:
            return found
        return (self.step_end(found[0], model_output, self.sigmas[self.step_index]),)


def schedule(config: Mapping[str, Any], first: int, step_end: StepEnd | None = None) -> Schedule:
    made: Schedule = Schedule.from_config(dict(config))
    made.first, made.step_end = first, step_end
    return made


def first_sigma(config: Mapping[str, Any], steps: int, first: int, tokens: int) -> torch.Tensor:
    """With which sigma a picture of so many tokens begins, as the pipelines of FLUX.1, Z-Image
    and Qwen-Image count."""
    from diffusers.pipelines.flux.pipeline_flux import calculate_shift

    own = schedule(config, first)
    keys = ("base_image_seq_len", "max_image_seq_len", "base_shift", "max_shift")
    bounds = [own.config[key] for key in keys]
    own.set_timesteps(
        sigmas=np.linspace(1.0, 1 / steps, steps), mu=calculate_shift(tokens, *bounds)
    )
    return own.sigmas[0]
