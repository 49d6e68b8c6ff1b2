"""Reranking on MLX."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from mlxsrv.backends.checkpoint import Checkpoint
from mlxsrv.backends.encoding import Batch, Floats, pad, require_finite
from mlxsrv.backends.jsonfile import read_object
from mlxsrv.backends.mlx.encoder import Classifier
from mlxsrv.backends.mlx.encoder_load import LoadedEncoder, load_encoder, loading_errors
from mlxsrv.backends.mlx.encoder_shape import FAMILIES, shape_of
from mlxsrv.backends.mlx.encoder_weights import classifier_arrays, fill, read_arrays
from mlxsrv.backends.mlx.facts import facts_of
from mlxsrv.backends.relevance import Relevance, YesNo, read_relevance
from mlxsrv.core.encoding import TokenRow
from mlxsrv.core.errors import LoadError

Classify = Callable[[mx.array, Batch], mx.array]


class MlxRerankBackend:
    """Implements `RerankBackend`; see there for the contract."""

    def __init__(
        self, encoder: LoadedEncoder, head: nn.Module, relevance: Relevance | YesNo
    ) -> None:
        self.facts = facts_of([encoder.model, head], vocab_size=encoder.vocab_size)
        self._encoder = encoder
        self._head: Classify = head
        self._relevance = relevance

    def score(self, rows: Sequence[TokenRow]) -> Floats:
        batch = pad(rows)
        logits = self._head(self._encoder.encode(batch), batch)
        return self._relevance.scores(require_finite(np.array(logits.astype(mx.float32))))

    def close(self) -> None:
        del self._encoder, self._head
        mx.clear_cache()


class LastToken(nn.Module):
    """Logits of the last token, which alone has seen the whole text."""

    def __init__(self, width: int, labels: int, *, bias: bool = False) -> None:
        super().__init__()
        self.labels = nn.Linear(width, labels, bias=bias)

    def __call__(self, hidden: mx.array, batch: Batch) -> mx.array:
        return self.labels(hidden[mx.arange(len(batch.lengths)), mx.array(batch.lengths - 1)])


def load_rerank(checkpoint: Checkpoint) -> Generator[int, None, MlxRerankBackend]:
    """Loads a cross-encoder, or a language model that answers yes or no; yields the bytes
    read so far. Raises LoadError."""
    relevance = read_relevance(checkpoint)
    config = read_object(checkpoint.folder / "config.json")
    with loading_errors(checkpoint.folder):
        if isinstance(relevance, YesNo):
            encoder, head = yield from _load_yes_no(checkpoint.folder, config, relevance)
        else:
            encoder = yield from load_encoder(checkpoint.folder, config)
            head = yield from _load_classifier(checkpoint.folder, config, encoder.width)
        backend = MlxRerankBackend(encoder, head, relevance)
        backend.score([TokenRow((0,))])
    return backend


def _load_classifier(
    folder: Path, config: Mapping[str, Any], width: int
) -> Generator[int, None, nn.Module]:
    arrays = classifier_arrays(read_arrays(folder))
    if "labels.weight" not in arrays:
        raise LoadError(f"{folder.name} has no classification head: it can't rerank")
    labels = arrays["labels.weight"].shape[0]
    head = (
        Classifier(shape_of(config), labels)
        if config["model_type"] in FAMILIES
        else LastToken(width, labels, bias="labels.bias" in arrays)
    )
    yield from fill(head, arrays, config)
    return head


def _load_yes_no(
    folder: Path, config: Mapping[str, Any], answer: YesNo
) -> Generator[int, None, tuple[LoadedEncoder, nn.Module]]:
    # mlx-lm takes its time to import, and cross-encoders do without it.
    from mlxsrv.backends.mlx.encoder_lm import load_with_output_rows

    vocab_size, width = int(config["vocab_size"]), int(config["hidden_size"])
    answer.require_within(vocab_size)
    language, rows = yield from load_with_output_rows(folder, answer.ids)
    head = LastToken(width, len(answer.ids))
    head.load_weights([("labels.weight", rows)])
    return LoadedEncoder(language, language.model, vocab_size, width), head
