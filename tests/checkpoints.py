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


FLUX: dict[str, Any] = {
    "_class_name": "FluxPipeline",
    "_diffusers_version": "0.30.0",
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "text_encoder_2": ["transformers", "T5EncoderModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "tokenizer_2": ["transformers", "T5TokenizerFast"],
    "transformer": ["diffusers", "FluxTransformer2DModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "image_encoder": [None, None],
}
FLUX_PARTS: dict[str, tuple[dict[str, Any], str, dict[str, tuple[str, tuple[int, ...]]]]] = {
    "text_encoder": ({"hidden_size": 8}, "model", {"a.weight": ("BF16", (8, 64))}),
    "text_encoder_2": ({"d_model": 64, "d_ff": 128}, "model", {"b.weight": ("BF16", (64, 64))}),
    "transformer": (
        {"num_attention_heads": 2, "attention_head_dim": 32, "_diffusers_version": "0.30.0"},
        "diffusion_pytorch_model",
        {"c.weight": ("BF16", (128, 64)), "c.bias": ("BF16", (128,))},
    ),
    "vae": (
        {"block_out_channels": [4, 8], "sample_size": 64, "_diffusers_version": "0.30.0"},
        "diffusion_pytorch_model",
        {"d.weight": ("BF16", (4, 3, 3, 3))},
    ),
}
"""Part → configuration, the name of its weights, and these."""


def pipeline_files(changed: Mapping[str, bytes] | None = None) -> dict[str, bytes]:
    """Name → content of a FLUX.1 in diffusers' layout, with `changed` or further files."""
    files = {
        "model_index.json": json.dumps(FLUX).encode(),
        "scheduler/scheduler_config.json": b"{}",
        "tokenizer/vocab.json": b"{}",
        "tokenizer/merges.txt": b"#",
        "tokenizer_2/tokenizer.json": b"{}",
    }
    for part, (config, weights, tensors) in FLUX_PARTS.items():
        files[f"{part}/config.json"] = json.dumps(config).encode()
        files[f"{part}/{weights}.safetensors"] = safetensors(tensors)
    return {**files, **(changed or {})}
