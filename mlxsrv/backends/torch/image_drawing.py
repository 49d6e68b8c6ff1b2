"""One picture as it is made. Runs in slices; see `image_slices`."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from mlxsrv.backends.flux_layout import kept
from mlxsrv.backends.noise import noise
from mlxsrv.backends.torch.image_families import Family, Parts
from mlxsrv.backends.torch.image_latents import PATCH, Latents
from mlxsrv.backends.torch.image_preview import Previews
from mlxsrv.backends.torch.image_prompts import Prompts
from mlxsrv.backends.torch.image_schedule import first_sigma, schedule
from mlxsrv.backends.torch.image_slices import tell
from mlxsrv.core.image import Drawing, DrawingStep, preview_steps


@dataclass(frozen=True, slots=True)
class Studio:
    """What all drawings of a model share; `pipeline` is the class that runs it."""

    pipeline: Callable[..., Any]
    family: Family
    parts: Parts
    latents: Latents
    prompts: Prompts
    previews: Previews
    device: torch.device
    dtype: torch.dtype


@dataclass(frozen=True, slots=True)
class _Beginning:
    """The picture that a drawing begins with, as steps have it, and where it is kept."""

    picture: torch.Tensor
    noise: torch.Tensor
    keep: torch.Tensor | None

    def at(self, sigma: torch.Tensor) -> torch.Tensor:
        return sigma * self.noise + (1.0 - sigma) * self.picture

    def kept_in(self, latents: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        if self.keep is None:
            return latents
        return torch.where(self.keep, self.at(sigma).to(latents.dtype), latents)


class Work:
    """Makes one picture, of whose steps the `first` ones are left out."""

    def __init__(self, studio: Studio, drawing: Drawing, first: int) -> None:
        self._studio = studio
        self._drawing = drawing
        self._first = first
        self._steps = drawing.steps - first
        self._previews = preview_steps(self._steps, drawing.previews)
        self._done = 0
        self._latents: torch.Tensor | None = None
        self._beginning: _Beginning | None = None

    def __call__(self) -> DrawingStep:
        self._denoise()
        assert self._latents is not None
        picture = self._studio.latents.decoded(self._unpacked(self._latents))
        return DrawingStep(self._done, self._steps, picture=picture)

    def _denoise(self) -> None:
        studio, drawing = self._studio, self._drawing
        settings = schedule(studio.parts.scheduler, self._first, self._step_end)
        components = dict(studio.parts.components)
        # Some keep what they are about on themselves.
        components["vae"] = copy.copy(components["vae"])
        pipeline = studio.pipeline(**components, scheduler=settings)
        pipeline.set_progress_bar_config(disable=True)
        with studio.prompts.serving(pipeline):
            pipeline(
                **studio.family.arguments(studio.parts, drawing),
                width=drawing.width,
                height=drawing.height,
                num_inference_steps=drawing.steps,
                latents=self._begin(),
                output_type="latent",
            )

    def _begin(self) -> torch.Tensor:
        """What the pipeline starts from."""
        studio, drawing, latents = self._studio, self._drawing, self._studio.latents
        rows, columns = drawing.height // latents.cell, drawing.width // latents.cell
        drawn = noise(drawing.seed, (latents.channels, rows, columns))
        plain = torch.from_numpy(drawn)[None].to(studio.device)
        if not (drawing.images and studio.family.begins):
            return latents.first(plain)
        picture = latents.encoded(drawing.images[0]).to(plain.dtype)
        self._beginning = _Beginning(
            latents.packed(picture), latents.packed(plain), self._keep(plain)
        )
        tokens = rows * columns // PATCH**2
        sigma = first_sigma(studio.parts.scheduler, drawing.steps, self._first, tokens)
        return self._beginning.at(sigma)

    def _keep(self, like: torch.Tensor) -> torch.Tensor | None:
        mask, latents = self._drawing.mask, self._studio.latents
        if mask is None:
            return None
        cells = torch.from_numpy(kept(mask, latents.cell)).to(like.device)
        return latents.packed(cells.expand_as(like).to(like.dtype)) > 0.5

    def _step_end(
        self, latents: torch.Tensor, direction: torch.Tensor, sigma: torch.Tensor
    ) -> torch.Tensor:
        if self._beginning is not None:
            latents = self._beginning.kept_in(latents, sigma)
        self._latents = latents
        self._done += 1
        preview = None
        if self._done in self._previews:
            preview = self._studio.previews.picture(self._unpacked(latents - sigma * direction))
        tell(DrawingStep(self._done, self._steps, preview))
        return latents

    def _unpacked(self, latents: torch.Tensor) -> torch.Tensor:
        return self._studio.latents.unpacked(latents, self._drawing.width, self._drawing.height)
