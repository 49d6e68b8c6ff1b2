"""Whisper in MLX (arXiv:2212.04356), with what the decoder's rows attend to left to the caller.

mlx-whisper's decoder takes one length for all rows and one window a row. Parameters are named
as in transformers. Attention works on [rows, heads, tokens, head size].
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn

from mlxsrv.backends.mlx.memory import on_cpu
from mlxsrv.backends.whisper_files import ROWS_AT_ONCE, WhisperSizes

KeysValues = tuple[mx.array, mx.array]
Own = Callable[[int, mx.array, mx.array, mx.array], mx.array]
"""A layer's attention to the row's own tokens: layer, queries, keys, values."""
Cross = Callable[[int, mx.array], mx.array]
"""A layer's attention to the sound: layer, queries."""


@dataclass(frozen=True, slots=True, eq=False)
class Sound:
    """An encoded window: what each decoder layer attends to, [1, heads, audio context, size]."""

    layers: tuple[KeysValues, ...]


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def queries(self, states: mx.array) -> mx.array:
        return self._split(self.q_proj(states))

    def keys_values(self, states: mx.array) -> KeysValues:
        return self._split(self.k_proj(states)), self._split(self.v_proj(states))

    def out(self, attended: mx.array) -> mx.array:
        return self.out_proj(attended.transpose(0, 2, 1, 3).flatten(2))

    def _split(self, states: mx.array) -> mx.array:
        return mx.unflatten(states, -1, (self.heads, -1)).transpose(0, 2, 1, 3)


class Layer(nn.Module):
    """Attention to oneself and the feed-forward part; `reads` adds attention to the sound."""

    def __init__(self, width: int, heads: int, inner: int, *, reads: bool) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        if reads:
            self.encoder_attn = Attention(width, heads)
            self.encoder_attn_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, inner)
        self.fc2 = nn.Linear(inner, width)
        self.final_layer_norm = nn.LayerNorm(width)

    def feed_forward(self, hidden: mx.array) -> mx.array:
        return hidden + self.fc2(nn.gelu(self.fc1(self.final_layer_norm(hidden))))


class AudioEncoder(nn.Module):
    def __init__(self, sizes: WhisperSizes) -> None:
        super().__init__()
        width = sizes.width
        self.conv1 = nn.Conv1d(sizes.mels, width, kernel_size=3, padding=1)
        self.conv2 = nn.Conv1d(width, width, kernel_size=3, stride=2, padding=1)
        self.embed_positions = nn.Embedding(sizes.audio_context, width)
        self.layers = [
            Layer(width, sizes.audio_heads, sizes.audio_inner, reads=False)
            for _ in range(sizes.audio_layers)
        ]
        self.layer_norm = nn.LayerNorm(width)

    def states(self, mels: mx.array) -> Generator[mx.array, None, mx.array]:
        """Hidden states [windows, audio context, width] of windows [windows, frames, mels].

        Yields what it is about to need, to be computed in turn.
        """
        hidden = nn.gelu(self.conv2(nn.gelu(self.conv1(mels))))
        hidden = hidden + self.embed_positions.weight
        yield hidden
        for layer in self.layers:
            hidden = yield from _rows(layer, hidden)
        return self.layer_norm(hidden)


def _rows(layer: Layer, hidden: mx.array) -> Generator[mx.array, None, mx.array]:
    """One layer of the encoder, some positions at a time: of the others each needs no more than
    their keys and values."""
    attention = layer.self_attn
    normed = layer.self_attn_layer_norm(hidden)
    keys, values = attention.keys_values(normed)
    count = hidden.shape[1]
    step = ROWS_AT_ONCE if on_cpu() else count
    parts = []
    for begin in range(0, count, step):
        own = slice(begin, begin + step)
        attended = attend(attention.queries(normed[:, own]), keys, values)
        parts.append(layer.feed_forward(hidden[:, own] + attention.out(attended)))
        yield parts[-1]
    return mx.concatenate(parts, axis=1)


class TextDecoder(nn.Module):
    def __init__(self, sizes: WhisperSizes) -> None:
        super().__init__()
        width = sizes.width
        self.embed_tokens = nn.Embedding(sizes.vocab_size, width)
        self.embed_positions = nn.Embedding(sizes.text_context, width)
        self.layers = [
            Layer(width, sizes.text_heads, sizes.text_inner, reads=True)
            for _ in range(sizes.text_layers)
        ]
        self.layer_norm = nn.LayerNorm(width)

    def __call__(self, ids: mx.array, places: mx.array, own: Own, cross: Cross) -> mx.array:
        """Hidden states [rows, tokens, width] of ids [rows, tokens] that stand at `places`."""
        hidden = self.embed_tokens(ids) + self.embed_positions(places)
        for index, layer in enumerate(self.layers):
            attention = layer.self_attn
            normed = layer.self_attn_layer_norm(hidden)
            attended = own(index, attention.queries(normed), *attention.keys_values(normed))
            hidden = hidden + attention.out(attended)
            attention = layer.encoder_attn
            queries = attention.queries(layer.encoder_attn_layer_norm(hidden))
            hidden = layer.feed_forward(hidden + attention.out(cross(index, queries)))
        return hidden

    def logits(self, hidden: mx.array) -> mx.array:
        """Of hidden states [rows, width], [rows, vocabulary]."""
        return self.embed_tokens.as_linear(self.layer_norm(hidden))


class Whisper(nn.Module):
    def __init__(self, sizes: WhisperSizes) -> None:
        super().__init__()
        self.encoder = AudioEncoder(sizes)
        self.decoder = TextDecoder(sizes)

    def pieces(self, mels: mx.array) -> Generator[Sound | None]:
        """Encodes windows [windows, frames, mels] together, a layer or a part of one at a time:
        None after each but the last of a window."""
        hidden = yield from _computed(self.encoder.states(mels))
        for place in range(len(mels)):
            layers = []
            for layer in self.decoder.layers:
                layers.append(_compact(layer.encoder_attn.keys_values(hidden[place : place + 1])))
                yield None
            yield Sound(tuple(layers))


def _computed(states: Generator[mx.array, None, mx.array]) -> Generator[None, None, mx.array]:
    while True:
        try:
            mx.eval(next(states))
        except StopIteration as end:
            found: mx.array = end.value
            return found
        yield None


def _compact(pair: KeysValues) -> KeysValues:
    keys, values = (mx.contiguous(states) for states in pair)
    mx.eval(keys, values)
    return keys, values


def attend(
    queries: mx.array, keys: mx.array, values: mx.array, mask: mx.array | str | None = None
) -> mx.array:
    scale = queries.shape[-1] ** -0.5
    return mx.fast.scaled_dot_product_attention(queries, keys, values, scale=scale, mask=mask)


def look(queries: mx.array, keys: mx.array, values: mx.array) -> mx.array:
    """Rows that share a window [1, heads, audio context, head size] attend to it as one row with
    all their tokens would, so that it is read once."""
    rows, heads, tokens, size = queries.shape
    together = queries.transpose(1, 0, 2, 3).reshape(1, heads, rows * tokens, size)
    attended = attend(together, keys, values)
    return attended.reshape(heads, rows, tokens, size).transpose(1, 0, 2, 3)
