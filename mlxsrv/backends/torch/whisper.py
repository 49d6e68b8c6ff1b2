"""Whisper's two halves on torch, from the layers of transformers' model.

Its own decoder takes one length for all rows and one window a row. Here what the rows attend to
is left to the caller. Shapes are [rows, heads, tokens, head size] throughout.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import gelu, scaled_dot_product_attention
from transformers import WhisperConfig, WhisperModel

from mlxsrv.backends.whisper_files import ROWS_AT_ONCE, WhisperSizes

KeysValues = tuple[torch.Tensor, torch.Tensor]
Own = Callable[[int, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""A layer's attention to the row's own tokens: layer, queries, keys, values."""
Cross = Callable[[int, torch.Tensor], torch.Tensor]
"""A layer's attention to the sound: layer, queries."""


def empty_model(sizes: WhisperSizes) -> WhisperModel:
    """A model of these sizes that has no weights yet."""
    config = WhisperConfig(
        vocab_size=sizes.vocab_size,
        num_mel_bins=sizes.mels,
        d_model=sizes.width,
        encoder_layers=sizes.audio_layers,
        encoder_attention_heads=sizes.audio_heads,
        encoder_ffn_dim=sizes.audio_inner,
        max_source_positions=sizes.audio_context,
        decoder_layers=sizes.text_layers,
        decoder_attention_heads=sizes.text_heads,
        decoder_ffn_dim=sizes.text_inner,
        max_target_positions=sizes.text_context,
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=None,
        decoder_start_token_id=0,
        attn_implementation="sdpa",
    )
    with torch.device("meta"):
        return WhisperModel(config).eval()


@dataclass(frozen=True, slots=True, eq=False)
class Sound:
    """An encoded window: what each decoder layer attends to, [1, heads, audio context, size]."""

    layers: tuple[KeysValues, ...]


class Encoder:
    """Log-mel windows to what the decoder attends to."""

    def __init__(self, model: WhisperModel) -> None:
        self._encoder: Any = model.encoder
        self._readers = [layer.encoder_attn for layer in model.decoder.layers]

    def pieces(self, mels: torch.Tensor) -> Generator[Sound | None]:
        """Encodes windows [windows, mels, frames] together, a layer or a part of one at a time:
        None after each but the last of a window."""
        encoder = self._encoder
        hidden = gelu(encoder.conv2(gelu(encoder.conv1(mels)))).transpose(1, 2)
        hidden = hidden + encoder.embed_positions.weight
        yield None
        for layer in encoder.layers:
            hidden = yield from _rows(layer, hidden)
        for window in encoder.layer_norm(hidden).split(1):
            layers = []
            for reader in self._readers:
                layers.append(_keys_values(reader, window))
                yield None
            yield Sound(tuple(layers))


def _rows(layer: Any, hidden: torch.Tensor) -> Generator[None, None, torch.Tensor]:
    """One layer of the encoder, some positions at a time: of the others each needs no more than
    their keys and values."""
    attention = layer.self_attn
    normed = layer.self_attn_layer_norm(hidden)
    keys, values = _keys_values(attention, normed)
    parts = []
    step = ROWS_AT_ONCE if hidden.device.type == "cpu" else hidden.shape[1]
    for given, own in zip(hidden.split(step, 1), normed.split(step, 1), strict=True):
        queries = split_heads(attention.q_proj(own), attention.num_heads)
        attended = scaled_dot_product_attention(queries, keys, values)
        part = given + attention.out_proj(_join_heads(attended))
        parts.append(part + layer.fc2(gelu(layer.fc1(layer.final_layer_norm(part)))))
        yield None
    return torch.cat(parts, 1)


def _keys_values(reader: Any, window: torch.Tensor) -> KeysValues:
    heads = reader.num_heads
    keys, values = reader.k_proj(window), reader.v_proj(window)
    return split_heads(keys, heads).contiguous(), split_heads(values, heads).contiguous()


class Decoder:
    """Tokens to hidden states and logits."""

    def __init__(self, model: WhisperModel) -> None:
        self._decoder: Any = model.decoder
        self._tokens = model.decoder.embed_tokens.weight
        self._positions = model.decoder.embed_positions.weight

    def __call__(
        self, ids: torch.Tensor, places: torch.Tensor, own: Own, cross: Cross
    ) -> torch.Tensor:
        """Hidden states [rows, tokens, width] of ids [rows, tokens] that stand at `places`."""
        hidden = self._tokens[ids] + self._positions[places]
        for index, layer in enumerate(self._decoder.layers):
            attention = layer.self_attn
            heads = attention.num_heads
            normed = layer.self_attn_layer_norm(hidden)
            attended = own(
                index,
                split_heads(attention.q_proj(normed), heads),
                split_heads(attention.k_proj(normed), heads),
                split_heads(attention.v_proj(normed), heads),
            )
            hidden = hidden + attention.out_proj(_join_heads(attended))
            attention = layer.encoder_attn
            queries = attention.q_proj(layer.encoder_attn_layer_norm(hidden))
            attended = cross(index, split_heads(queries, heads))
            hidden = hidden + attention.out_proj(_join_heads(attended))
            hidden = hidden + layer.fc2(gelu(layer.fc1(layer.final_layer_norm(hidden))))
        return hidden

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Of hidden states [rows, width], [rows, vocabulary]."""
        return self._decoder.layer_norm(hidden) @ self._tokens.T


def look(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Rows that share a window [1, heads, audio context, head size] attend to it as one row with
    all their tokens would, so that it is read once."""
    rows, heads, tokens, size = queries.shape
    together = queries.transpose(0, 1).reshape(1, heads, rows * tokens, size)
    attended = scaled_dot_product_attention(together, keys, values)
    return attended.view(heads, rows, tokens, size).transpose(0, 1)


def split_heads(states: torch.Tensor, heads: int) -> torch.Tensor:
    return states.unflatten(-1, (heads, -1)).transpose(1, 2)


def _join_heads(attended: torch.Tensor) -> torch.Tensor:
    return attended.transpose(1, 2).flatten(2)
