"""Embeddings on MLX."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import mlx.core as mx
import numpy as np

from mlxsrv.backends.checkpoint import Checkpoint
from mlxsrv.backends.encoding import Floats, pad, require_finite
from mlxsrv.backends.jsonfile import read_object
from mlxsrv.backends.mlx.encoder_load import LoadedEncoder, load_encoder, loading_errors
from mlxsrv.backends.mlx.encoder_weights import fill
from mlxsrv.backends.mlx.facts import facts_of
from mlxsrv.backends.mlx.sentence import SentenceHeads, head_arrays, pool
from mlxsrv.backends.sentence import SentenceSettings, read_sentence
from mlxsrv.core.encoding import TokenRow


class MlxEmbeddingBackend:
    """Implements `EmbeddingBackend`; see there for the contract."""

    packs = False

    def __init__(
        self, encoder: LoadedEncoder, heads: SentenceHeads, settings: SentenceSettings
    ) -> None:
        self.dimensions = settings.dimensions(encoder.width)
        self.facts = facts_of([encoder.model, heads], vocab_size=encoder.vocab_size)
        self._encoder = encoder
        self._heads = heads
        self._pooling = settings.pooling

    def embed(self, rows: Sequence[TokenRow]) -> Floats:
        batch = pad(rows)
        pooled = pool(self._encoder.encode(batch), self._pooling, batch)
        return require_finite(np.array(self._heads(pooled), np.float32))

    def close(self) -> None:
        del self._encoder, self._heads
        mx.clear_cache()


def load_embedding(checkpoint: Checkpoint) -> Generator[int, None, MlxEmbeddingBackend]:
    """Loads an encoder and what follows it; yields the bytes read so far. Raises LoadError."""
    settings = read_sentence(checkpoint)
    config = read_object(checkpoint.folder / "config.json")
    with loading_errors(checkpoint.folder):
        encoder = yield from load_encoder(checkpoint.folder, config)
        heads = SentenceHeads(settings.heads)
        settings.dimensions(encoder.width)
        yield from fill(heads, head_arrays(settings), config)
        backend = MlxEmbeddingBackend(encoder, heads, settings)
        backend.embed([TokenRow((0,))])
    return backend
