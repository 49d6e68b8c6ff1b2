"""The families of image models that mflux draws, and how each is loaded and asked.

Nothing of mflux is imported before such a model is loaded.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from PIL import Image

from mlxsrv.backends import image_habits as habits
from mlxsrv.backends.image_habits import Habits
from mlxsrv.backends.jsonfile import read_object, read_optional
from mlxsrv.core.errors import LoadError
from mlxsrv.core.image import Drawing, ImageFacts

SIDE = 1024
CELL = 8
PATCH = 2
"""Pixels along a latent cell's side, and cells along a token's."""

_FLUX2_SIZES = (
    "in_channels",
    "num_layers",
    "num_single_layers",
    "attention_head_dim",
    "num_attention_heads",
    "joint_attention_dim",
    "timestep_guidance_channels",
    "mlp_ratio",
    "axes_dims_rope",
    "rope_theta",
)
_QWEN3_SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "rms_norm_eps",
)
_Z_IMAGE_SIZES = {"dim": 3840, "n_layers": 30, "n_heads": 30, "cap_feat_dim": 2560}
_QWEN_SIZES = {"num_layers": 60, "num_attention_heads": 24, "joint_attention_dim": 3584}

_QWEN_RENAMED = {
    ".attn.to_out.0": ".attn.attn_to_out.0",
    ".img_mlp.net.0.proj": ".img_ff.mlp_in",
    ".img_mlp.net.2": ".img_ff.mlp_out",
    ".img_mod.1": ".img_mod_linear",
    ".txt_mlp.net.0.proj": ".txt_ff.mlp_in",
    ".txt_mlp.net.2": ".txt_ff.mlp_out",
    ".txt_mod.1": ".txt_mod_linear",
}

Arguments = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Models:
    """mflux's two ways to draw, with a prompt alone or with pictures, over the same parts."""

    plain: Any
    edit: Any

    @property
    def parts(self) -> tuple[nn.Module, ...]:
        return self.plain.vae, self.plain.transformer, self.plain.text_encoder


@dataclass(frozen=True, slots=True)
class Family:
    """`habits` are read from a folder; `load` takes how many bits a weight is packed to.

    `arguments` are what `generate_image` takes for a drawing that starts from a step, beside what
    all do. `cells` gives the latents that the autoencoder takes [1, channels, height, width] of
    those that are drawn. Of `inputs` pictures at most, the one is what a drawing begins with, or
    with `references` the model looks at them. `taef1`: whether latents are those of FLUX.1.
    `renamed` are the ends of layers' paths that mflux calls otherwise than diffusers.
    """

    habits: Callable[[Path], Habits]
    load: Callable[[Path, int | None], Models]
    arguments: Callable[[Drawing, int], Arguments]
    cells: Callable[[Any, mx.array, Drawing], mx.array]
    inputs: int = 1
    references: bool = False
    needs_picture: bool = False
    taef1: bool = False
    renamed: Mapping[str, str] = field(default_factory=dict)

    def facts(self, folder: Path) -> ImageFacts:
        own = self.habits(folder)
        return ImageFacts(
            width=SIDE,
            height=SIDE,
            multiple=CELL * PATCH,
            steps=own.steps,
            guidance=own.guidance,
            negative_prompt=own.negative_prompt,
            inputs=self.inputs,
            references=self.references,
            masks=False,
        )


def transformer_width(folder: Path) -> int:
    """Of the states that it works on."""
    config = read_object(folder / "transformer" / "config.json")
    if "dim" in config:
        return int(config["dim"])
    return int(config["num_attention_heads"]) * int(config["attention_head_dim"])


def _klein_habits(folder: Path) -> Habits:
    return habits.klein(read_object(folder / "model_index.json"))


def _load_klein(folder: Path, bits: int | None) -> Models:
    from mflux.models.common.config.model_config import ModelConfig
    from mflux.models.flux2.variants.edit.flux2_klein_edit import Flux2KleinEdit
    from mflux.models.flux2.variants.txt2img.flux2_klein import Flux2Klein

    config = copy.copy(ModelConfig.flux2_klein_4b())
    config.transformer_overrides = _sizes(folder / "transformer", _FLUX2_SIZES)
    config.text_encoder_overrides = _sizes(folder / "text_encoder", _QWEN3_SIZES)
    plain = Flux2Klein(quantize=bits, model_path=str(folder), model_config=config)
    return Models(plain, _over_parts_of(plain, Flux2KleinEdit))


def _sizes(part: Path, keys: Sequence[str]) -> dict[str, Any]:
    config = read_object(part / "config.json")
    return {key: config[key] for key in keys if config.get(key) is not None}


def _over_parts_of(model: Any, kind: Any) -> Any:
    """A model of another kind that shares everything with `model`, so that it loads nothing."""
    twin = kind.__new__(kind)
    nn.Module.__init__(twin)
    for name, value in {**vars(model), **model}.items():
        setattr(twin, name, value)
    return twin


def _klein(drawing: Drawing, first: int) -> Arguments:
    # A guidance of 1 is none.
    guidance = {"guidance": 1.0 if drawing.guidance is None else drawing.guidance}
    return guidance | ({"image_paths": _shown(drawing)} if drawing.images else {})


def _klein_cells(vae: Any, latents: mx.array, drawing: Drawing) -> mx.array:
    height, width = drawing.height // (CELL * PATCH), drawing.width // (CELL * PATCH)
    tokens = latents.reshape(1, height, width, -1).transpose(0, 3, 1, 2)
    cells: mx.array = vae.unpack_packed_latents(tokens)
    return cells


def _z_image_habits(folder: Path) -> Habits:
    return habits.z_image(read_optional(folder / "scheduler" / "scheduler_config.json"))


def _load_z_image(folder: Path, bits: int | None) -> Models:
    from mflux.models.common.config.model_config import ModelConfig
    from mflux.models.z_image.variants.z_image import ZImage

    _require_sizes(folder, _Z_IMAGE_SIZES)
    turbo = _z_image_habits(folder).guidance is None
    config = ModelConfig.z_image_turbo() if turbo else ModelConfig.z_image()
    model = ZImage(quantize=bits, model_path=str(folder), model_config=config)
    return Models(model, model)


def _require_sizes(folder: Path, sizes: Mapping[str, int]) -> None:
    config = read_object(folder / "transformer" / "config.json")
    for key, size in sizes.items():
        if config.get(key, size) != size:
            raise LoadError(
                f"{folder.name}: mflux draws only with a transformer whose {key} is {size}, "
                f"not {config[key]}"
            )


def _begun(drawing: Drawing, first: int) -> Arguments:
    """mflux counts how much of the picture stays, as a share of the steps to be left out."""
    found: Arguments = {"guidance": drawing.guidance, "negative_prompt": drawing.negative_prompt}
    if first:
        found |= {
            "image_path": _shown(drawing)[0],
            "image_strength": (first + 0.5) / drawing.steps,
        }
    return found


def _same_cells(vae: Any, latents: mx.array, drawing: Drawing) -> mx.array:
    height, width = drawing.height // CELL, drawing.width // CELL
    return latents.reshape(1, -1, height, width)


def _load_qwen(folder: Path, bits: int | None) -> Models:
    from mflux.models.qwen.variants.txt2img.qwen_image import QwenImage

    _require_sizes(folder, _QWEN_SIZES)
    model = QwenImage(quantize=bits, model_path=str(folder))
    return Models(model, model)


def _load_qwen_edit(folder: Path, bits: int | None) -> Models:
    from mflux.models.common.config.model_config import ModelConfig
    from mflux.models.qwen.variants.edit.qwen_image_edit import QwenImageEdit

    _require_sizes(folder, _QWEN_SIZES)
    later = read_object(folder / "transformer" / "config.json").get("zero_cond_t")
    config = ModelConfig.qwen_image_edit_2511() if later else ModelConfig.qwen_image_edit()
    model = QwenImageEdit(quantize=bits, model_path=str(folder), model_config=config)
    return Models(model, model)


def _qwen_edit(drawing: Drawing, first: int) -> Arguments:
    return {
        "guidance": drawing.guidance,
        "negative_prompt": drawing.negative_prompt,
        "image_paths": _shown(drawing),
    }


def _qwen_cells(vae: Any, latents: mx.array, drawing: Drawing) -> mx.array:
    from mflux.models.qwen.latent_creator.qwen_latent_creator import QwenLatentCreator

    cells: mx.array = QwenLatentCreator.unpack_latents(
        latents=latents, height=drawing.height, width=drawing.width
    )
    return cells


def _shown(drawing: Drawing) -> list[Image.Image]:
    """Where mflux takes a path it takes a picture as well."""
    return [Image.fromarray(pixels) for pixels in drawing.images]


FAMILIES: Mapping[str, Family] = {
    "Flux2KleinPipeline": Family(
        _klein_habits,
        _load_klein,
        _klein,
        _klein_cells,
        inputs=4,
        references=True,
        renamed={".attn.to_out.0": ".attn.to_out"},
    ),
    "ZImagePipeline": Family(_z_image_habits, _load_z_image, _begun, _same_cells, taef1=True),
    "QwenImagePipeline": Family(
        lambda _: habits.QWEN_IMAGE, _load_qwen, _begun, _qwen_cells, renamed=_QWEN_RENAMED
    ),
    "QwenImageEditPlusPipeline": Family(
        lambda _: habits.QWEN_IMAGE_EDIT_PLUS,
        _load_qwen_edit,
        _qwen_edit,
        _qwen_cells,
        inputs=3,
        references=True,
        needs_picture=True,
        renamed=_QWEN_RENAMED,
    ),
}
"""By the name of diffusers' pipeline."""
