"""The names that trainers give to the tensors of LoRA for FLUX, as diffusers names the layers.

Names come with dots (diffusers, ai-toolkit, ComfyUI, XLabs) or with underscores in their place
(kohya's sd-scripts), and layers are called as diffusers calls them or as Black Forest Labs does
(https://github.com/black-forest-labs/flux), where one layer may be several of diffusers'.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """The layers of diffusers' model whose outputs, one after the other, are the adapter's.

    `swapped`: the outputs' halves, which diffusers has the other way round.
    """

    paths: tuple[str, ...]
    swapped: bool = False


_NAME = re.compile(
    r"(?P<path>.+)\.(?:lora_(?P<peft>[AB])(?:\.[^.]+)?\.weight"
    r"|(?:lora[_.])?(?P<plain>down|up)\.weight|(?P<alpha>alpha))"
)
_PARTS = {"A": "a", "down": "a", "B": "b", "up": "b"}

_TEXT_ENCODER = re.compile(
    r"(?:base_model\.model\.)?(?:lora_te\d?_|text_encoders?(?:_\d)?\.|te\d\.).+"
)
_BEFORE = re.compile(
    r"(?:base_model\.model\.)?"
    r"(?:transformer\.|(?:model\.)?diffusion_model\.|lora_unet_|lora_transformer_|lycoris_)?"
)
_BLOCK = re.compile(
    r"(?P<kind>double_blocks|transformer_blocks|single_blocks|single_transformer_blocks)"
    r"_(?P<number>\d+)_(?P<inner>.+)"
)

_QKV = ("attn.to_q", "attn.to_k", "attn.to_v")
_ADDED_QKV = ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj")

_DOUBLE = {
    "img_attn_qkv": _QKV,
    "img_attn_proj": ("attn.to_out.0",),
    "img_mlp_0": ("ff.net.0.proj",),
    "img_mlp_2": ("ff.net.2",),
    "img_mod_lin": ("norm1.linear",),
    "txt_attn_qkv": _ADDED_QKV,
    "txt_attn_proj": ("attn.to_add_out",),
    "txt_mlp_0": ("ff_context.net.0.proj",),
    "txt_mlp_2": ("ff_context.net.2",),
    "txt_mod_lin": ("norm1_context.linear",),
    "processor_qkv_lora1": _QKV,
    "processor_proj_lora1": ("attn.to_out.0",),
    "processor_qkv_lora2": _ADDED_QKV,
    "processor_proj_lora2": ("attn.to_add_out",),
}
_SINGLE = {
    "linear1": (*_QKV, "proj_mlp"),
    "linear2": ("proj_out",),
    "modulation_lin": ("norm.linear",),
    "processor_qkv_lora": _QKV,
    "processor_proj_lora": ("proj_out",),
}
_SWAPPED = "final_layer_adaLN_modulation_1"
_OUTER = {
    "img_in": ("x_embedder",),
    "txt_in": ("context_embedder",),
    "time_in_in_layer": ("time_text_embed.timestep_embedder.linear_1",),
    "time_in_out_layer": ("time_text_embed.timestep_embedder.linear_2",),
    "vector_in_in_layer": ("time_text_embed.text_embedder.linear_1",),
    "vector_in_out_layer": ("time_text_embed.text_embedder.linear_2",),
    "guidance_in_in_layer": ("time_text_embed.guidance_embedder.linear_1",),
    "guidance_in_out_layer": ("time_text_embed.guidance_embedder.linear_2",),
    "final_layer_linear": ("proj_out",),
    _SWAPPED: ("norm_out.linear",),
}

Table = Mapping[str, tuple[str, ...]]


def _with_own_names(table: Table) -> Table:
    """As well as Black Forest Labs' names diffusers' own, with underscores in place of dots."""
    own = {path.replace(".", "_"): (path,) for paths in table.values() for path in paths}
    return {**own, **table}


_BLOCKS = {
    "double_blocks": ("transformer_blocks", _with_own_names(_DOUBLE)),
    "single_blocks": ("single_transformer_blocks", _with_own_names(_SINGLE)),
}
_BLOCKS |= {name: (name, inner) for name, inner in _BLOCKS.values()}
_OTHERS = _with_own_names(_OUTER)


def path_and_part(name: str) -> tuple[str, str] | None:
    """A tensor's layer, and whether it is its `a`, `b` or `alpha`; None where it is none."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    part = "alpha" if found["alpha"] else _PARTS[found["peft"] or found["plain"]]
    return found["path"], part


def of_text_encoder(name: str) -> bool:
    return _TEXT_ENCODER.fullmatch(name) is not None


def bare(path: str) -> str:
    """A layer's path without what stands before the transformer's own names."""
    return _BEFORE.sub("", path, count=1)


def target(path: str) -> Target | None:
    """Where a layer of the adapter belongs. Names with dots that are not known stay as they are:
    they may be those of another family of models."""
    own = bare(path)
    flat = own.replace(".", "_")
    block = _BLOCK.fullmatch(flat)
    if block is None:
        paths = _OTHERS.get(flat)
    else:
        outer, table = _BLOCKS[block["kind"]]
        inner = table.get(block["inner"], ())
        paths = tuple(f"{outer}.{int(block['number'])}.{name}" for name in inner)
    if paths:
        return Target(paths, swapped=flat == _SWAPPED)
    return Target((own,)) if "." in own else None
