"""What drawing takes in memory, beside the model: estimates, fitted to what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlxsrv.backends.image_habits import FLUX1_TOKENS as TOKENS
from mlxsrv.backends.torch.image_families import SIDE, Parts, usual_side
from mlxsrv.backends.torch.image_latents import PATCH, TILE, Latents
from mlxsrv.core.image import Drawing, Pixels

FIXED = 64_000_000
"""What is laid out anew for convolutions, and what the allocator keeps."""

TILES = 48
"""Bytes a pixel of the picture, in the shapes that it has before it is handed out."""

_BLOCK = 24
"""Numbers that a block of a transformer holds at its widest point, for each of a token's own."""

_SCORES = 5
"""Arrays of what each token thinks of each other one, in single precision."""


def working_bytes(
    parts: Parts, latents: Latents, drawing: Drawing, *, references: bool, itemsize: int
) -> int:
    """The most that any phase takes: reading the prompt, a step, decoding and encoding."""
    pixels = drawing.width * drawing.height
    seen = [_seen(parts, picture) for picture in drawing.images] if references else []
    phases = (
        _reading(parts) * itemsize + _scores(parts) + parts.staged_bytes,
        _stepping(parts, latents, pixels + sum(seen), drawing) * itemsize,
        _decoding(parts, min(max(pixels, *seen, 0), TILE * TILE)) * itemsize,
    )
    return max(phases) + TILES * pixels + FIXED


def _seen(parts: Parts, picture: Pixels) -> int:
    """Pixels of a reference, which large models are shown in a size that they know."""
    return SIDE * SIDE if usual_side(parts) >= SIDE else picture.size // 3


def _reading(parts: Parts) -> int:
    """Numbers: the widest point of a layer, and every layer's hidden states."""
    return max((_read(config) for config in parts.encoders), default=0)


def _read(config: Mapping[str, Any]) -> int:
    hidden = _number(config, "hidden_size", "d_model")
    inner = _number(config, "intermediate_size", "d_ff") or 4 * hidden
    layers = _number(config, "num_hidden_layers", "num_layers")
    return TOKENS * (4 * inner + (8 + layers) * hidden)


def _scores(parts: Parts) -> int:
    heads = [_number(config, "num_attention_heads", "num_heads") for config in parts.encoders]
    return max(heads, default=0) * TOKENS**2 * 4 * _SCORES


def _number(config: Mapping[str, Any], *keys: str) -> int:
    own = config.get("text_config") or config
    return next((int(own[key]) for key in keys if key in own), 0)


def _stepping(parts: Parts, latents: Latents, pixels: int, drawing: Drawing) -> int:
    config = parts.transformer
    width = config.get("dim") or config.num_attention_heads * config.attention_head_dim
    tokens = pixels // (latents.cell * PATCH) ** 2 + TOKENS
    rows = 2 if drawing.guidance and "dim" in config else 1
    return tokens * rows * width * _BLOCK


def _decoding(parts: Parts, pixels: int) -> int:
    """Where the picture is whole in height and width, and channels are still those before."""
    config = parts.components["vae"].config
    channels = config.get("block_out_channels")
    if channels is None:
        # Qwen-Image's: a picture is filled up with empty frames before each convolution.
        return int(pixels * 50 * config.base_dim)
    return int(pixels * (4 * channels[min(1, len(channels) - 1)] + 32))
