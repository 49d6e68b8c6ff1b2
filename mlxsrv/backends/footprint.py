"""What a model will take in memory, from its configuration and its tensors' headers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlxsrv.backends.checkpoint import Checkpoint
from mlxsrv.core.transcription import CANDIDATES

CACHE_STEP = 256
"""Caches grow by so many tokens at a time."""

TOKENS_AT_ONCE = 2048
"""Prompt tokens that one slice may feed, over all rows."""

_TEXT_PARTS = ("text_config", "llm_config", "language_config")


@dataclass(frozen=True, slots=True)
class Residence:
    """How a backend will hold a checkpoint: bytes of weights, bytes per computed number.

    While it decodes a picture it has `decoding` arrays of the widest layer at once, and `spare`
    bytes more, whatever the picture's size.
    """

    weights: int
    itemsize: int
    decoding: int = 0
    spare: int = 0


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes: of the weights, of what one slice computes, and of the cache per token.

    Layers with a sliding window keep at most `window` tokens, at `windowed` bytes each. Whisper
    holds `per_request` while it transcribes a recording, however long it is; an image model needs
    about so much for a picture. `staged` is a smaller form of the same model, which takes longer.
    """

    weights: int
    activations: int
    per_token: int = 0
    windowed: int = 0
    window: int = 0
    per_request: int = 0
    staged: Footprint | None = None

    def cache(self, tokens: int) -> int:
        """Bytes of cache for a sequence of so many tokens."""
        whole = -(-tokens // CACHE_STEP) * CACHE_STEP
        each = whole * self.per_token + min(whole, self.window) * self.windowed
        return each + self.per_request


def estimate(checkpoint: Checkpoint, residence: Residence, *, caches: bool) -> Footprint:
    """The footprint of a checkpoint held as `residence` says; encoders keep no caches.

    A field that a configuration lacks is taken from what transformers derives it from.
    """
    config = _text_config(checkpoint)
    hidden = _number(config, "hidden_size", "d_model", "n_embd", "dim", "n_audio_state") or 1024
    inner = _number(config, "intermediate_size", "ffn_dim", "n_inner") or 4 * hidden
    vocabulary = _number(config, "vocab_size") or 32_000
    # The feed-forward part is the widest point of a layer; logits are made for few places.
    activations = residence.itemsize * (TOKENS_AT_ONCE * (6 * hidden + 3 * inner)) + 64 * vocabulary
    if not caches:
        listened = residence.itemsize * _listened_to(config, hidden)
        return Footprint(residence.weights, activations, per_request=listened)
    layers = _number(config, "num_hidden_layers", "n_layer", "num_layers", "n_layers") or 32
    each = _cache_width(config, hidden) * residence.itemsize
    windowed = _windowed_layers(config, layers)
    return Footprint(
        weights=residence.weights,
        activations=activations,
        per_token=(layers - windowed) * each,
        windowed=windowed * each,
        window=_number(config, "sliding_window") or 0,
    )


def _listened_to(config: Mapping[str, Any], hidden: int) -> int:
    """Numbers that Whisper's decoder attends to, keys and values in each layer: those of a window
    of sound, and those of the tokens of every candidate text."""
    layers = _number(config, "decoder_layers", "n_text_layer") or 0
    positions = _number(config, "max_source_positions", "n_audio_ctx") or 0
    tokens = _number(config, "max_target_positions", "n_text_ctx") or 0
    whole = -(-tokens // CACHE_STEP) * CACHE_STEP
    return layers * (positions + CANDIDATES * whole) * 2 * hidden


def _cache_width(config: Mapping[str, Any], hidden: int) -> int:
    """Numbers kept per token and layer: keys and values, or the latent of MLA
    (DeepSeek-V2, arXiv:2405.04434)."""
    latent = _number(config, "kv_lora_rank")
    if latent:
        return latent + (_number(config, "qk_rope_head_dim") or 0)
    heads = _number(config, "num_attention_heads", "n_head", "n_heads", "num_heads") or 16
    kv_heads = _number(config, "num_key_value_heads", "n_kv_heads") or heads
    return 2 * kv_heads * (_number(config, "head_dim") or hidden // heads)


def _windowed_layers(config: Mapping[str, Any], layers: int) -> int:
    types = config.get("layer_types")
    if not _number(config, "sliding_window"):
        return 0
    if isinstance(types, list):
        return min(layers, types.count("sliding_attention"))
    pattern = _number(config, "sliding_window_pattern")
    if pattern:
        return layers - layers // pattern
    return 0  # an unused window is common in configurations: rather too much than too little


def _text_config(checkpoint: Checkpoint) -> Mapping[str, Any]:
    file = checkpoint.folder / "config.json"
    if not file.exists():
        return {}
    config: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    parts = (config.get(part) for part in _TEXT_PARTS)
    return next((part for part in parts if isinstance(part, dict)), config)


def _number(config: Mapping[str, Any], *keys: str) -> int | None:
    for key in keys:
        value: object = config.get(key)
        if isinstance(value, int) and value > 0:
            return value
    return None
