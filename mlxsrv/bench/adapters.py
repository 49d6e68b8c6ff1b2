"""LoRA adapters for the bench's llamas, as PEFT writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlxsrv.bench.checkpoints import HEAD, Shape, cached

if TYPE_CHECKING:
    import numpy as np

RANK = 16
SCALE = 2.0
STRENGTH = 0.1
"""How large what an adapter adds is, beside what the weights themselves give."""
MODULES = {
    "self_attn": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "mlp": ("gate_proj", "up_proj", "down_proj"),
}


def ensure(name: str, shape: Shape, count: int, cache: Path) -> list[Path]:
    """The folders of so many adapters for the checkpoint called `name`."""

    def building(seed: int) -> Path:
        return cached(f"{name}-lora-{seed}", cache, lambda folder: build(folder, shape, seed))

    return [building(seed) for seed in range(count)]


def build(folder: Path, shape: Shape, seed: int) -> None:
    """Writes an adapter of all projections into an existing folder."""
    import numpy as np
    from safetensors.numpy import save_file

    rng = np.random.default_rng(seed)

    def matrix(rows: int, columns: int, size: float) -> np.ndarray[Any, Any]:
        values = rng.standard_normal((rows, columns), dtype=np.float32)
        return np.asarray(size * values, np.float32)

    tensors = {}
    for path, (inputs, outputs) in sizes(shape).items():
        name = f"base_model.model.{path}"
        tensors[f"{name}.lora_A.weight"] = matrix(RANK, inputs, inputs**-0.5)
        tensors[f"{name}.lora_B.weight"] = matrix(outputs, RANK, STRENGTH / SCALE * RANK**-0.5)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": RANK,
        "lora_alpha": SCALE * RANK,
        "target_modules": [name for names in MODULES.values() for name in names],
        "bias": "none",
    }
    (folder / "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")


def sizes(shape: Shape) -> dict[str, tuple[int, int]]:
    """Inputs and outputs of every projection, by its path."""
    queries, keys = HEAD * shape.heads, HEAD * shape.kv_heads
    each = {
        "q_proj": (shape.hidden, queries),
        "k_proj": (shape.hidden, keys),
        "v_proj": (shape.hidden, keys),
        "o_proj": (queries, shape.hidden),
        "gate_proj": (shape.hidden, shape.intermediate),
        "up_proj": (shape.hidden, shape.intermediate),
        "down_proj": (shape.intermediate, shape.hidden),
    }
    return {
        f"model.layers.{layer}.{part}.{name}": each[name]
        for layer in range(shape.layers)
        for part, names in MODULES.items()
        for name in names
    }
