"""The families of image models that are drawn with diffusers' pipelines, and how each is asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from mlxsrv.backends import image_habits as habits
from mlxsrv.backends.drawable import require_hole, require_picture
from mlxsrv.backends.image_habits import Habits
from mlxsrv.backends.torch.image_latents import (
    PATCH,
    Flux2Latents,
    FluxLatents,
    Latents,
    QwenLatents,
)
from mlxsrv.core.errors import LoadError
from mlxsrv.core.image import Drawing, ImageFacts

SIDE = 1024
"""Of a picture in pixels, where the model names no usual one."""

Arguments = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Parts:
    """A pipeline's parts by name, and what its model_index.json, its scheduler and its text
    encoders say. `staged_bytes` are those of text encoders that are not among the parts."""

    components: Mapping[str, Any]
    index: Mapping[str, Any]
    scheduler: Mapping[str, Any]
    encoders: Sequence[Mapping[str, Any]]
    staged_bytes: int = 0

    @property
    def transformer(self) -> Any:
        return self.components["transformer"].config


@dataclass(frozen=True, slots=True)
class Family:
    """`habits` are read from a model's parts; `arguments` are what its pipeline takes for a
    drawing, beside what all of them do.

    Of `inputs` pictures at most, a drawing begins with the one, unless the model looks at them as
    `references`, or `fills` what is masked. `edits_only`: it can't do without a picture.
    """

    latents: type[Latents]
    habits: Callable[[Parts], Habits]
    arguments: Callable[[Parts, Drawing], Arguments]
    inputs: int = 1
    references: bool = False
    fills: bool = False
    edits_only: bool = False

    @property
    def begins(self) -> bool:
        return not (self.references or self.fills)

    def facts(self, parts: Parts, latents: Latents) -> ImageFacts:
        own = self.habits(parts)
        multiple = latents.cell * PATCH
        side = max(multiple, usual_side(parts) // multiple * multiple)
        return ImageFacts(
            width=side,
            height=side,
            multiple=multiple,
            steps=own.steps,
            guidance=own.guidance,
            negative_prompt=own.negative_prompt,
            inputs=self.inputs,
            references=self.references,
            masks=not self.references,
        )

    def require_inputs(self, drawing: Drawing) -> None:
        """Raises InvalidRequest where the model can't do without what the drawing lacks."""
        if self.fills:
            require_hole(drawing)
        if self.edits_only:
            require_picture(drawing)


def usual_side(parts: Parts) -> int:
    """Of the pictures that the model was made for, in pixels."""
    side = parts.components["vae"].config.get("sample_size") or SIDE
    return int(min(side) if isinstance(side, list | tuple) else side)


def _flux_habits(own: Habits) -> Callable[[Parts], Habits]:
    return lambda parts: habits.flux1(own, guided=parts.transformer.guidance_embeds)


def _flux(parts: Parts, drawing: Drawing) -> Arguments:
    allowed = habits.flux1_tokens(guided=parts.transformer.guidance_embeds)
    tokens = min(allowed, parts.components["tokenizer_2"].model_max_length)
    return {
        "prompt": drawing.prompt,
        "guidance_scale": drawing.guidance or 0.0,
        "max_sequence_length": tokens,
    }


def _kontext(parts: Parts, drawing: Drawing) -> Arguments:
    """Pictures are shown to it in a size that it knows, unless it is a small model."""
    return _flux(parts, drawing) | {
        "image": _shown(drawing)[0] if drawing.images else None,
        "max_area": drawing.width * drawing.height,
        "_auto_resize": usual_side(parts) >= SIDE,
    }


def _fill(parts: Parts, drawing: Drawing) -> Arguments:
    assert drawing.mask is not None
    mask = Image.fromarray((drawing.mask * 255).round().astype("uint8"))
    return _flux(parts, drawing) | {
        "image": _shown(drawing)[0],
        "mask_image": mask,
        # For what it sees of the picture around the mask, which is drawn from a distribution.
        "generator": torch.Generator().manual_seed(drawing.seed % 2**63),
    }


def _klein(parts: Parts, drawing: Drawing) -> Arguments:
    return {
        "prompt": drawing.prompt,
        "guidance_scale": drawing.guidance or 1.0,
        "image": _shown(drawing) or None,
    }


def _z_image(parts: Parts, drawing: Drawing) -> Arguments:
    return {
        "prompt": drawing.prompt,
        "negative_prompt": drawing.negative_prompt or None,
        "guidance_scale": drawing.guidance or 0.0,
    }


def _qwen(parts: Parts, drawing: Drawing) -> Arguments:
    """Without any negative prompt there would be no guidance."""
    return {
        "prompt": drawing.prompt,
        "negative_prompt": drawing.negative_prompt or " ",
        "true_cfg_scale": drawing.guidance or 1.0,
    }


def _qwen_edit(parts: Parts, drawing: Drawing) -> Arguments:
    return _qwen(parts, drawing) | {"image": _shown(drawing)[0]}


def _qwen_edit_plus(parts: Parts, drawing: Drawing) -> Arguments:
    return _qwen(parts, drawing) | {"image": _shown(drawing)}


def _shown(drawing: Drawing) -> list[Image.Image]:
    return [Image.fromarray(pixels) for pixels in drawing.images]


FAMILIES: Mapping[str, Family] = {
    "FluxPipeline": Family(FluxLatents, _flux_habits(habits.FLUX1), _flux),
    "FluxKontextPipeline": Family(
        FluxLatents, _flux_habits(habits.FLUX1_KONTEXT), _kontext, references=True
    ),
    "FluxFillPipeline": Family(FluxLatents, _flux_habits(habits.FLUX1_FILL), _fill, fills=True),
    "Flux2KleinPipeline": Family(
        Flux2Latents, lambda parts: habits.klein(parts.index), _klein, inputs=4, references=True
    ),
    "ZImagePipeline": Family(Latents, lambda parts: habits.z_image(parts.scheduler), _z_image),
    "QwenImagePipeline": Family(QwenLatents, lambda _: habits.QWEN_IMAGE, _qwen),
    "QwenImageEditPipeline": Family(
        QwenLatents, lambda _: habits.QWEN_IMAGE, _qwen_edit, references=True, edits_only=True
    ),
    "QwenImageEditPlusPipeline": Family(
        QwenLatents,
        lambda _: habits.QWEN_IMAGE_EDIT_PLUS,
        _qwen_edit_plus,
        inputs=3,
        references=True,
        edits_only=True,
    ),
}
"""By the name of the pipeline's class."""


def family_of(name: str) -> Family:
    """Raises LoadError for a pipeline that is not served."""
    family = FAMILIES.get(name)
    if family is None:
        served = ", ".join(sorted(FAMILIES))
        raise LoadError(f"{name} is not served on torch, which draws with {served}")
    return family
