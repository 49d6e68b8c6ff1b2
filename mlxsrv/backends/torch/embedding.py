"""Embeddings on torch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import AutoModel

from mlxsrv.backends.checkpoint import Checkpoint
from mlxsrv.backends.encoding import Floats, pad, require_finite, token_weights
from mlxsrv.backends.sentence import SentenceSettings, read_sentence
from mlxsrv.backends.torch.encoder import TorchEncoder, load_model, loading_errors
from mlxsrv.backends.torch.packing import can_pack
from mlxsrv.backends.torch.sentence import SentenceHeads, pool
from mlxsrv.core.encoding import TokenRow


class TorchEmbeddingBackend:
    """Implements `EmbeddingBackend`; see there for the contract."""

    def __init__(
        self, encoder: TorchEncoder, heads: SentenceHeads, settings: SentenceSettings
    ) -> None:
        self.dimensions = settings.dimensions(encoder.width)
        self.facts = encoder.facts(heads)
        self.packs = encoder.packs
        self._encoder = encoder
        self._heads = heads
        self._pooling = settings.pooling

    @torch.inference_mode()
    def embed(self, rows: Sequence[TokenRow]) -> Floats:
        batch = pad(rows)
        hidden = self._encoder.hidden_states(batch)
        weights = self._encoder.tensor(token_weights(self._pooling, batch))
        vectors = self._heads(pool(hidden, self._pooling, weights))
        return require_finite(vectors.cpu().numpy())

    def close(self) -> None:
        del self._encoder, self._heads


def load_embedding(checkpoint: Checkpoint) -> TorchEmbeddingBackend:
    """Loads an encoder and what follows it. Raises LoadError."""
    settings = read_sentence(checkpoint)
    with loading_errors(checkpoint.folder):
        model = load_model(AutoModel, checkpoint, dispensable=["pooler."])
        # BERT's own pooler was for another task; the vectors come from the tokens.
        if getattr(model, "pooler", None) is not None:
            model.pooler = None
        encoder = TorchEncoder(model, checkpoint, packs=can_pack(model))
        settings.dimensions(encoder.width)
        heads = SentenceHeads(settings.heads).to(model.device).eval()
        backend = TorchEmbeddingBackend(encoder, heads, settings)
        backend.embed([TokenRow((0,))])
    return backend
