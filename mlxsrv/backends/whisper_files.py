"""Whisper checkpoints as they are published: transformers' folders and mlx-whisper's.

The two differ in their configuration, in the names of their tensors and in the axes of the
convolutions; conversions with mlx-audio mix them. Here the names are transformers' without the
`model.` before them, and every difference is told by what is there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlxsrv.backends.jsonfile import read_object, read_optional
from mlxsrv.core.errors import LoadError
from mlxsrv.core.transcription import WhisperShape

Heads = tuple[tuple[int, int], ...]

POSITIONS = "encoder.embed_positions.weight"

ALIGNMENT = "alignment_heads"
"""What mlx-whisper calls the list of heads that it saves among the tensors."""

ROWS_AT_ONCE = 250
"""Positions of sound that a layer of the encoder computes at a time on the CPU, where all of them
would hold up others for too long."""

_PARTS = {
    "blocks": "layers",
    "attn": "self_attn",
    "cross_attn": "encoder_attn",
    "query": "q_proj",
    "key": "k_proj",
    "value": "v_proj",
    "out": "out_proj",
    "attn_ln": "self_attn_layer_norm",
    "cross_attn_ln": "encoder_attn_layer_norm",
    "mlp_ln": "final_layer_norm",
    "mlp1": "fc1",
    "mlp2": "fc2",
    "ln": "layer_norm",
    "ln_post": "layer_norm",
    "token_embedding": "embed_tokens",
    "positional_embedding": "embed_positions.weight",
    "_positional_embedding": "embed_positions.weight",
}
"""mlx-whisper's names, which are OpenAI's, and transformers'."""

_HUB_KEYS = {
    "mels": "num_mel_bins",
    "vocab_size": "vocab_size",
    "width": "d_model",
    "audio_context": "max_source_positions",
    "audio_layers": "encoder_layers",
    "audio_heads": "encoder_attention_heads",
    "audio_inner": "encoder_ffn_dim",
    "text_context": "max_target_positions",
    "text_layers": "decoder_layers",
    "text_heads": "decoder_attention_heads",
    "text_inner": "decoder_ffn_dim",
}
_OPENAI_KEYS = {
    "mels": "n_mels",
    "vocab_size": "n_vocab",
    "width": "n_audio_state",
    "audio_context": "n_audio_ctx",
    "audio_layers": "n_audio_layer",
    "audio_heads": "n_audio_head",
    "text_context": "n_text_ctx",
    "text_layers": "n_text_layer",
    "text_heads": "n_text_head",
}


@dataclass(frozen=True, slots=True)
class WhisperSizes:
    """Of both halves of a model; `*_inner` is the width of the layers' feed-forward part."""

    mels: int
    vocab_size: int
    width: int
    audio_context: int
    audio_layers: int
    audio_heads: int
    audio_inner: int
    text_context: int
    text_layers: int
    text_heads: int
    text_inner: int

    def shape(self, alignment_heads: Heads) -> WhisperShape:
        return WhisperShape(
            mels=self.mels,
            vocab_size=self.vocab_size,
            audio_context=self.audio_context,
            text_context=self.text_context,
            layers=self.text_layers,
            heads=self.text_heads,
            alignment_heads=alignment_heads,
        )


def read_sizes(folder: Path) -> WhisperSizes:
    """Reads either kind of config.json. Raises LoadError where it is not Whisper's."""
    config = read_object(folder / "config.json")
    keys = _OPENAI_KEYS if "n_audio_state" in config else _HUB_KEYS
    read = {field: _size(folder, config, key) for field, key in keys.items()}
    if keys is _OPENAI_KEYS:
        read["audio_inner"] = read["text_inner"] = 4 * read["width"]
    sizes = WhisperSizes(**read)
    if (
        sizes.width % sizes.audio_heads
        or sizes.width % sizes.text_heads
        or sizes.width % 2
        or sizes.width < 4
    ):
        raise LoadError(f"{folder.name}: {sizes.width} dimensions can't be shared by its heads")
    if config.get("n_text_state", sizes.width) != sizes.width:
        raise LoadError(f"{folder.name} is not a Whisper model: its two halves differ in width")
    if config.get("activation_function", "gelu") != "gelu":
        raise LoadError(f"{folder.name} uses {config['activation_function']}, not gelu")
    return sizes


def _size(folder: Path, config: Mapping[str, Any], key: str) -> int:
    value: object = config.get(key)
    if type(value) is not int or not 0 < value < 10**7:
        raise LoadError(f"{folder.name} is not a Whisper model: {key} is {value!r} in config.json")
    return value


def our_name(published: str) -> str | None:
    """The name of a tensor here; None for what is not used.

    The output layer is not: all checkpoints tie it to the token embedding.
    """
    parts = published.removeprefix("model.").split(".")
    if parts[0] not in {"encoder", "decoder"}:
        return None
    return ".".join(_PARTS.get(part, part) for part in parts)


def channels_last(name: str, shape: Iterable[int]) -> bool:
    """Whether this is a convolution with its axes as MLX has them: [out, 3, in].

    Elsewhere they are [out, in, 3].
    """
    dims = tuple(shape)
    return ".conv" in name and len(dims) == 3 and dims[2] != 3


def alignment_heads(folder: Path, sizes: WhisperSizes, stored: object = None) -> Heads:
    """The heads that follow the words in time, as (layer, head).

    From generation_config.json, else from the tensor among the weights (`stored`, as a list);
    else all heads of the later half of the layers, as OpenAI's code does.
    """
    named = read_optional(folder / "generation_config.json").get(ALIGNMENT)
    for found in (named, stored):
        heads = _pairs(found)
        if heads and all(
            0 <= x < sizes.text_layers and 0 <= y < sizes.text_heads for x, y in heads
        ):
            return heads
    layers = range(sizes.text_layers // 2, sizes.text_layers)
    return tuple((layer, head) for layer in layers for head in range(sizes.text_heads))


def _pairs(found: object) -> Heads:
    if not isinstance(found, list) or not all(_is_pair(pair) for pair in found):
        return ()
    return tuple((layer, head) for layer, head in found)


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(x) is int for x in value)


def sinusoids(length: int, width: int) -> NDArray[np.float32]:
    """The encoder's positions [length, width], which mlx-whisper's folders leave out.

    Sines, then cosines, of wavelengths from 2 pi to 10,000 * 2 pi (arXiv:1706.03762).
    """
    rates = np.exp(-np.log(10_000) / (width // 2 - 1) * np.arange(width // 2))
    angles = np.arange(length)[:, None] * rates
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)
