"""Whisper on MLX."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Sequence
from typing import TYPE_CHECKING

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from mlxsrv.backends.checkpoint import Checkpoint
from mlxsrv.backends.jsonfile import read_object
from mlxsrv.backends.mlx.encoder_load import loading_errors
from mlxsrv.backends.mlx.encoder_weights import Arrays, fill, read_arrays
from mlxsrv.backends.mlx.facts import facts_of
from mlxsrv.backends.mlx.rowcache import RowCache
from mlxsrv.backends.mlx.whisper import Sound, Whisper, attend, look
from mlxsrv.backends.slices import in_slices
from mlxsrv.backends.transcription_rows import Block, RowTable
from mlxsrv.backends.whisper_files import (
    ALIGNMENT,
    POSITIONS,
    alignment_heads,
    channels_last,
    our_name,
    read_sizes,
    sinusoids,
)
from mlxsrv.core.transcription import WhisperShape

if TYPE_CHECKING:
    from mlxsrv.backends.base import Encoded

Floats = NDArray[np.float32]


class MlxTranscriptionBackend:
    """Implements `TranscriptionBackend`; see there for the contract."""

    def __init__(self, model: Whisper, shape: WhisperShape) -> None:
        self.shape = shape
        self.facts = facts_of([model], vocab_size=shape.vocab_size)
        self._model = model
        self._dtype = model.encoder.conv1.weight.dtype
        self._rows: RowTable[Sound] = RowTable(
            vocab_size=shape.vocab_size, longest=shape.text_context
        )
        self._cache = RowCache(shape.layers)

    def encode_steps(self, mels: Sequence[Floats]) -> Iterator[list[Encoded] | None]:
        windows = mx.array(np.stack(mels)).astype(self._dtype)
        pieces: Iterator[Encoded | None] = self._model.pieces(windows)
        yield from in_slices(pieces)

    def insert(self, uid: int, window: Encoded, tokens: Sequence[int]) -> None:
        assert isinstance(window, Sound)
        self._rows.insert(uid, window, tokens)

    def extend(self, uid: int, token: int) -> None:
        self._rows.extend(uid, token)

    def step(self) -> dict[int, Floats]:
        blocks = self._rows.take_blocks()
        logits = [self._feed(block).astype(mx.float32) for block in blocks]
        mx.eval(logits)
        fed: dict[int, Floats] = {}
        for block, rows in zip(blocks, logits, strict=True):
            fed.update(zip(block.uids, np.array(rows), strict=True))
        return fed

    def _feed(self, block: Block[Sound]) -> mx.array:
        """Logits [rows, vocabulary] after each row's last token."""
        self._cache.ensure_room(block.end, block.length)
        places = mx.array(block.starts)[:, None] + mx.arange(block.width)
        mask = _mask(block, places)

        def own(layer: int, q: mx.array, k: mx.array, v: mx.array) -> mx.array:
            keys, values = self._cache.update(layer, k, v, block, places)
            return attend(q, keys, values, mask)

        def cross(layer: int, queries: mx.array) -> mx.array:
            ends = np.cumsum([count for _, count in block.windows]).tolist()
            looks = zip(mx.split(queries, ends[:-1]), block.windows, strict=True)
            return mx.concatenate([look(part, *sound.layers[layer]) for part, (sound, _) in looks])

        hidden = self._model.decoder(mx.array(block.tokens), places, own, cross)
        return self._model.decoder.logits(hidden[:, -1])

    def remove(self, uids: Collection[int]) -> None:
        for source, target, length in self._rows.remove(uids):
            self._cache.move(source, target, length)
        if not len(self._rows):
            self._cache = RowCache(self.shape.layers)

    def align(self, window: Encoded, tokens: Sequence[int]) -> Floats:
        assert isinstance(window, Sound)
        self._rows.require_valid(tokens)
        scores: dict[tuple[int, int], mx.array] = {}

        def own(layer: int, q: mx.array, k: mx.array, v: mx.array) -> mx.array:
            return attend(q, k, v, "causal")

        def cross(layer: int, queries: mx.array) -> mx.array:
            keys, values = window.layers[layer]
            for pair in self.shape.alignment_heads:
                if pair[0] == layer:
                    q, k = queries[0, pair[1]], keys[0, pair[1]]
                    scores[pair] = (q * q.shape[-1] ** -0.5) @ k.T
            return look(queries, keys, values)

        self._model.decoder(mx.array([list(tokens)]), mx.arange(len(tokens))[None], own, cross)
        wanted = mx.stack([scores[pair] for pair in self.shape.alignment_heads])
        return np.array(wanted.astype(mx.float32))

    def reset(self) -> None:
        self._rows.clear()
        self._cache = RowCache(self.shape.layers)
        mx.clear_cache()

    def close(self) -> None:
        self.reset()
        del self._model
        mx.clear_cache()


def _mask(block: Block[Sound], places: mx.array) -> mx.array | None:
    """What each token may attend to [rows, 1, tokens, length]; None: everything there is."""
    if block.width == 1 and block.start is not None:
        return None
    return mx.arange(block.length) <= places[:, None, :, None]


def load_transcription(checkpoint: Checkpoint) -> Generator[int, None, MlxTranscriptionBackend]:
    """Loads Whisper from a folder of either layout, quantised or not; yields the bytes read.

    Raises LoadError.
    """
    folder = checkpoint.folder
    sizes = read_sizes(folder)
    with loading_errors(folder):
        published = read_arrays(folder)
        stored = published[ALIGNMENT].tolist() if ALIGNMENT in published else None
        arrays = _named(published)
        width = arrays["decoder.embed_positions.weight"].dtype
        positions = mx.array(sinusoids(sizes.audio_context, sizes.width)).astype(width)
        arrays.setdefault(POSITIONS, positions)
        model = Whisper(sizes)
        yield from fill(model, arrays, read_object(folder / "config.json"))
    shape = sizes.shape(alignment_heads(folder, sizes, stored))
    return MlxTranscriptionBackend(model, shape)


def _named(published: Arrays) -> Arrays:
    """The tensors under our names, convolutions as MLX has them."""
    arrays: Arrays = {}
    for name, array in published.items():
        ours = our_name(name)
        if ours is not None:
            turned = ".conv" in ours and array.ndim == 3 and not channels_last(ours, array.shape)
            arrays[ours] = array.transpose(0, 2, 1) if turned else array
    return arrays
