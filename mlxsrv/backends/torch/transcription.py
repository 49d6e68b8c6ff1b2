"""Whisper on torch."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch.nn.functional import scaled_dot_product_attention
from transformers import WhisperModel

from mlxsrv.backends.base import ModelFacts
from mlxsrv.backends.checkpoint import Checkpoint
from mlxsrv.backends.slices import in_slices
from mlxsrv.backends.torch.cache import RowCache, Window
from mlxsrv.backends.torch.encoder import loading_errors
from mlxsrv.backends.torch.precision import device_name, dtype_for, threads_for, use_threads
from mlxsrv.backends.torch.whisper import Decoder, Encoder, Sound, empty_model, look
from mlxsrv.backends.transcription_rows import Block, RowTable
from mlxsrv.backends.weights import weight_files
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


class TorchTranscriptionBackend:
    """Implements `TranscriptionBackend`; see there for the contract."""

    def __init__(self, model: WhisperModel, shape: WhisperShape, *, threads: int) -> None:
        self.shape = shape
        self._encoder = Encoder(model)
        self._decoder = Decoder(model)
        self._device, self._dtype = model.device, model.dtype
        self._threads = threads
        self._rows: RowTable[Sound] = RowTable(
            vocab_size=shape.vocab_size, longest=shape.text_context
        )
        self._cache = RowCache(shape.layers)
        self.facts = ModelFacts(
            backend="torch",
            vocab_size=shape.vocab_size,
            memory_bytes=sum(parameter.nbytes for parameter in model.parameters()),
            dtype=str(model.dtype).removeprefix("torch."),
        )

    @torch.inference_mode()
    def encode_steps(self, mels: Sequence[Floats]) -> Iterator[list[Encoded] | None]:
        windows = torch.from_numpy(np.stack(mels)).to(self._device, self._dtype).transpose(1, 2)
        pieces: Iterator[Encoded | None] = self._encoder.pieces(windows)
        # Thousands of positions at once: every thread has enough to do.
        use_threads(os.cpu_count() or 1)
        for sounds in in_slices(pieces):
            yield sounds
            use_threads(os.cpu_count() or 1)

    def insert(self, uid: int, window: Encoded, tokens: Sequence[int]) -> None:
        assert isinstance(window, Sound)
        self._rows.insert(uid, window, tokens)

    def extend(self, uid: int, token: int) -> None:
        self._rows.extend(uid, token)

    @torch.inference_mode()
    def step(self) -> dict[int, Floats]:
        use_threads(self._threads)
        fed: dict[int, Floats] = {}
        for block in self._rows.take_blocks():
            logits = self._feed(block).float().cpu().numpy()
            fed.update(zip(block.uids, logits, strict=True))
        return fed

    def _feed(self, block: Block[Sound]) -> torch.Tensor:
        """Logits [rows, vocabulary] after each row's last token."""
        self._cache.ensure_room(block.end, block.length)
        starts = torch.tensor(block.starts, device=self._device)
        places = starts[:, None] + torch.arange(block.width, device=self._device)
        self._cache.window = Window(
            rows=slice(block.first, block.end),
            positions=places,
            length=block.length,
            start=block.start,
            row_index=torch.arange(block.first, block.end, device=self._device)[:, None],
        )
        mask = self._mask(block, places)

        def own(layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            keys, values = self._cache.layers[layer].update(k, v)
            return scaled_dot_product_attention(q, keys, values, attn_mask=mask)

        def cross(layer: int, queries: torch.Tensor) -> torch.Tensor:
            parts = queries.split([count for _, count in block.windows])
            looks = zip(parts, block.windows, strict=True)
            return torch.cat([look(part, *sound.layers[layer]) for part, (sound, _) in looks])

        ids = torch.tensor(block.tokens, device=self._device)
        hidden = self._decoder(ids, places, own, cross)
        return self._decoder.logits(hidden[:, -1])

    def _mask(self, block: Block[Sound], places: torch.Tensor) -> torch.Tensor | None:
        """What each token may attend to [rows, 1, tokens, length]; None: everything there is."""
        if block.width == 1 and block.start is not None:
            return None
        return torch.arange(block.length, device=self._device) <= places[:, None, :, None]

    @torch.inference_mode()
    def remove(self, uids: Collection[int]) -> None:
        for source, target, length in self._rows.remove(uids):
            self._cache.move(source, target, length)
        if not len(self._rows):
            self._cache.clear()

    @torch.inference_mode()
    def align(self, window: Encoded, tokens: Sequence[int]) -> Floats:
        assert isinstance(window, Sound)
        self._rows.require_valid(tokens)
        use_threads(self._threads)
        scores: dict[tuple[int, int], torch.Tensor] = {}

        def own(layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            return scaled_dot_product_attention(q, k, v, is_causal=True)

        def cross(layer: int, queries: torch.Tensor) -> torch.Tensor:
            keys, values = window.layers[layer]
            for pair in self.shape.alignment_heads:
                if pair[0] == layer:
                    q, k = queries[0, pair[1]], keys[0, pair[1]]
                    scores[pair] = (q @ k.T) * q.shape[-1] ** -0.5
            return look(queries, keys, values)

        ids = torch.tensor([list(tokens)], device=self._device)
        self._decoder(ids, torch.arange(len(tokens), device=self._device)[None], own, cross)
        wanted = torch.stack([scores[pair] for pair in self.shape.alignment_heads])
        aligned: Floats = wanted.float().cpu().numpy()
        return aligned

    def reset(self) -> None:
        self._rows.clear()
        self._cache.clear()

    def close(self) -> None:
        self.reset()
        del self._encoder, self._decoder


def load_transcription(checkpoint: Checkpoint) -> TorchTranscriptionBackend:
    """Loads Whisper from a folder of either layout. Raises LoadError."""
    folder = checkpoint.folder
    sizes = read_sizes(folder)
    device = device_name()
    dtype = dtype_for(device, checkpoint.weight_bytes)
    with loading_errors(folder):
        tensors, stored = _read(folder)
        if isinstance(dtype, str):  # as stored
            dtype = tensors["decoder.embed_tokens.weight"].dtype
        tensors.setdefault(POSITIONS, torch.from_numpy(sinusoids(sizes.audio_context, sizes.width)))
        model = empty_model(sizes)
        placed = {name: tensor.to(device, dtype) for name, tensor in tensors.items()}
        model.load_state_dict(placed, assign=True)
    shape = sizes.shape(alignment_heads(folder, sizes, stored))
    return TorchTranscriptionBackend(model, shape, threads=threads_for(checkpoint.weight_bytes))


def _read(folder: Path) -> tuple[dict[str, torch.Tensor], object]:
    """The tensors under our names, and the alignment heads where they lie among them."""
    tensors: dict[str, torch.Tensor] = {}
    heads: object = None
    for file in weight_files(folder):
        for published, tensor in _load(file).items():
            name = our_name(published)
            if name is not None:
                turned = channels_last(name, tensor.shape)
                tensors[name] = tensor.transpose(1, 2).contiguous() if turned else tensor
            elif published == ALIGNMENT:
                heads = tensor.tolist()
    return tensors, heads


def _load(file: Path) -> dict[str, torch.Tensor]:
    if file.suffix != ".npz":
        return load_file(file)
    with np.load(file, allow_pickle=False) as arrays:
        return {name: torch.from_numpy(array) for name, array in arrays.items()}
