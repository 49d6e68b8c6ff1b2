"""Tiny LoRA adapters with random matrices, written exactly as PEFT and mlx-lm write theirs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from tests.tiny_models import Shape

Matrix = NDArray[np.float32]
Matrices = dict[str, tuple[Matrix, Matrix]]
"""By module path: `a` [rank, inputs] and `b` [outputs, rank]."""

SHAPE = Shape()

ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Recipe:
    """An adapter's settings; `scale` is what its product is multiplied by."""

    rank: int = 4
    scale: float = 2.0
    targets: tuple[str, ...] = ALL
    seed: int = 1
    strength: float = 0.5


def sizes(shape: Shape) -> dict[str, tuple[int, int]]:
    """Inputs and outputs of every linear layer of a tiny model, by its path."""
    head = shape.hidden // shape.heads
    hidden, queries, keys = shape.hidden, shape.heads * head, shape.kv_heads * head
    in_layer = {
        "self_attn.q_proj": (hidden, queries),
        "self_attn.k_proj": (hidden, keys),
        "self_attn.v_proj": (hidden, keys),
        "self_attn.o_proj": (queries, hidden),
        "mlp.gate_proj": (hidden, shape.intermediate),
        "mlp.up_proj": (hidden, shape.intermediate),
        "mlp.down_proj": (shape.intermediate, hidden),
    }
    layers = range(shape.layers)
    found = {f"model.layers.{n}.{name}": size for n in layers for name, size in in_layer.items()}
    return {**found, "lm_head": (hidden, shape.vocabulary)}


def matrices(recipe: Recipe = Recipe(), shape: Shape = SHAPE) -> Matrices:
    """As strong as the weights, so that the text differs from the base's."""
    rng = np.random.default_rng(recipe.seed)

    def matrix(rows: int, columns: int, size: float) -> Matrix:
        return np.asarray(rng.standard_normal((rows, columns)) * size, np.float32)

    return {
        path: (
            matrix(recipe.rank, inputs, inputs**-0.5),
            matrix(outputs, recipe.rank, recipe.strength / recipe.scale * recipe.rank**-0.5),
        )
        for path, (inputs, outputs) in sizes(shape).items()
        if path.endswith(recipe.targets)
    }


def write_peft(
    folder: Path,
    recipe: Recipe = Recipe(),
    shape: Shape = SHAPE,
    *,
    config: Mapping[str, Any] = {},
    tensors: Mapping[str, Any] = {},
    infix: str = "",
) -> Path:
    """As `PeftModel.save_pretrained` does; `config` and `tensors` are put in besides.

    `infix` is the adapter name in the tensors' names that older versions left there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "somebody/tiny",
        "r": recipe.rank,
        "lora_alpha": recipe.scale * recipe.rank,
        "target_modules": list(recipe.targets),
        "bias": "none",
        "use_dora": False,
        "use_rslora": False,
        "rank_pattern": {},
        "alpha_pattern": {},
        "modules_to_save": None,
        "init_lora_weights": True,
        "inference_mode": True,
        **config,
    }
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    named = {}
    for path, (a, b) in matrices(recipe, shape).items():
        named[f"base_model.model.{path}.lora_A{infix}.weight"] = a
        named[f"base_model.model.{path}.lora_B{infix}.weight"] = b
    save_file({**named, **tensors}, folder / "adapter_model.safetensors", {"format": "pt"})
    return folder


def write_mlx_lm(
    folder: Path,
    recipe: Recipe = Recipe(),
    shape: Shape = SHAPE,
    *,
    config: Mapping[str, Any] = {},
    tensors: Mapping[str, Any] = {},
) -> Path:
    """As `mlx_lm.lora --train` does."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [path.split(".", 3)[-1] for path in matrices(recipe, shape)]
    settings = {
        "model": "somebody/tiny",
        "fine_tune_type": "lora",
        "num_layers": shape.layers,
        "lora_parameters": {
            "rank": recipe.rank,
            "dropout": 0.0,
            "scale": recipe.scale,
            "keys": sorted(set(names)),
        },
        **config,
    }
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    named = {}
    for path, (a, b) in matrices(recipe, shape).items():
        named[f"{path}.lora_a"] = np.ascontiguousarray(a.T)
        named[f"{path}.lora_b"] = np.ascontiguousarray(b.T)
    save_file({**named, **tensors}, folder / "adapters.safetensors")
    return folder


def merge(base: Path, target: Path, adapters: Matrices, scale: float) -> Path:
    """The checkpoint `base` with `scale * b @ a` added to its weights."""
    target.mkdir()
    for file in base.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    weights = load_file(base / "model.safetensors")
    for path, (a, b) in adapters.items():
        weights[f"{path}.weight"] = weights[f"{path}.weight"] + np.float32(scale) * (b @ a)
    save_file(weights, target / "model.safetensors", {"format": "pt"})
    return target
