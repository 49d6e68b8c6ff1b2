"""Tiny model folders in the real formats, for tests that need no real weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from typing import Any

_ITEM_BYTES = {"F32": 4, "BF16": 2, "F16": 2, "U32": 4}

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "max_position_embeddings": 512,
    "eos_token_id": 2,
}


def safetensors(tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> bytes:
    """A safetensors file of zeros: name → (dtype, shape)."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (dtype, shape) in tensors.items():
        begin, end = end, end + prod(shape) * _ITEM_BYTES[dtype]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
    raw = json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + bytes(end)


def model_files(
    config: Mapping[str, Any] = LLAMA, changed: Mapping[str, bytes] | None = None
) -> dict[str, bytes]:
    """Name → content of a chat model's folder, with `changed` or further files."""
    return {
        "config.json": json.dumps(config).encode(),
        "tokenizer.json": b"{}",
        "tokenizer_config.json": json.dumps({"chat_template": "{{ messages }}"}).encode(),
        "model.safetensors": safetensors({"model.embed_tokens.weight": ("F32", (64, 16))}),
        **(changed or {}),
    }
