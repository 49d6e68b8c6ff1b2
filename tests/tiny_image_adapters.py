"""LoRA adapters with random matrices for image models, named as trainers name them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from mlxsrv.backends.headers import read_header
from tests.tiny_adapters import Matrices

Sizes = Mapping[str, tuple[int, int]]
"""Inputs and outputs of linear layers, by the path of each."""

ATTENTION = ("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0", "proj_mlp")


def layer_sizes(model: Path, targets: tuple[str, ...] = ATTENTION) -> Sizes:
    """Those of a diffusers folder's transformer whose paths end with one of `targets`."""
    tensors = [
        tensor
        for file in sorted((model / "transformer").glob("*.safetensors"))
        for tensor in read_header(file)
    ]
    found = {tensor.name.removesuffix(".weight"): tensor.shape for tensor in tensors}
    return {path: (s[1], s[0]) for path, s in found.items() if path.endswith(targets)}


def matrices(sizes: Sizes, *, rank: int = 4, seed: int = 1, strength: float = 0.5) -> Matrices:
    """About `strength` times as strong as weights are."""
    rng = np.random.default_rng(seed)

    def matrix(rows: int, columns: int, size: float) -> Any:
        return np.asarray(rng.standard_normal((rows, columns)) * size, np.float32)

    return {
        path: (matrix(rank, inputs, inputs**-0.5), matrix(outputs, rank, strength * rank**-0.5))
        for path, (inputs, outputs) in sizes.items()
    }


def named(
    layers: Matrices,
    *,
    before: str = "transformer.",
    parts: tuple[str, str] = ("lora_A", "lora_B"),
    flat: bool = False,
    alpha: float | None = None,
) -> dict[str, Any]:
    """The tensors of a file; `flat` writes layers with underscores, as kohya's scripts do."""
    tensors: dict[str, Any] = {}
    for path, (a, b) in layers.items():
        name = before + (path.replace(".", "_") if flat else path)
        tensors[f"{name}.{parts[0]}.weight"] = a
        tensors[f"{name}.{parts[1]}.weight"] = b
        if alpha is not None:
            tensors[f"{name}.alpha"] = np.array(alpha, np.float32)
    return tensors


def write_image_adapter(folder: Path, model: Path, *, seed: int = 1, strength: float = 0.5) -> Path:
    """An adapter that fits the model in a diffusers folder, as diffusers saves it."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = named(matrices(layer_sizes(model), seed=seed, strength=strength))
    save_file(tensors, folder / "pytorch_lora_weights.safetensors", {"format": "pt"})
    return folder
