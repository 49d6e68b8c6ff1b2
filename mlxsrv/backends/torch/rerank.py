"""Reranking on torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from mlxsrv.backends.checkpoint import Checkpoint
from mlxsrv.backends.encoding import Batch, Floats, pad, require_finite
from mlxsrv.backends.relevance import Relevance, YesNo, read_relevance
from mlxsrv.backends.torch.encoder import TorchEncoder, load_model, loading_errors
from mlxsrv.core.encoding import TokenRow

Judge = Callable[[Batch], torch.Tensor]


class TorchRerankBackend:
    """Implements `RerankBackend`; see there for the contract."""

    def __init__(
        self, encoder: TorchEncoder, head: nn.Module | None, relevance: Relevance | YesNo
    ) -> None:
        """With `head` the logits are made of the last token, else the model makes them."""
        self.facts = encoder.facts(*([head] if head is not None else []))
        self._encoder = encoder
        self._head = head
        self._relevance = relevance

    @torch.inference_mode()
    def score(self, rows: Sequence[TokenRow]) -> Floats:
        logits = self._logits(pad(rows)).float().cpu().numpy()
        return self._relevance.scores(require_finite(logits))

    def _logits(self, batch: Batch) -> torch.Tensor:
        out = self._encoder(batch)
        if self._head is None:
            logits: torch.Tensor = out.logits
            return logits
        return self._head(self._encoder.last(out.last_hidden_state, batch))

    def close(self) -> None:
        del self._encoder, self._head


def load_rerank(checkpoint: Checkpoint) -> TorchRerankBackend:
    """Loads a cross-encoder, or a language model that answers yes or no. Raises LoadError."""
    relevance = read_relevance(checkpoint)
    with loading_errors(checkpoint.folder):
        encoder, head = (
            _load_yes_no(checkpoint, relevance)
            if isinstance(relevance, YesNo)
            else _load_classifier(checkpoint)
        )
        backend = TorchRerankBackend(encoder, head, relevance)
        backend.score([TokenRow((0,))])
    return backend


def _load_classifier(checkpoint: Checkpoint) -> tuple[TorchEncoder, nn.Module | None]:
    model = load_model(AutoModelForSequenceClassification, checkpoint)
    if not hasattr(model, "score"):
        return TorchEncoder(model, checkpoint), None
    # A language model: transformers would look for its last token by the padding's id.
    return TorchEncoder(model.base_model, checkpoint), model.score


def _load_yes_no(checkpoint: Checkpoint, answer: YesNo) -> tuple[TorchEncoder, nn.Module]:
    """The model without its output layer, of which a row for each answer is kept."""
    model = load_model(AutoModelForCausalLM, checkpoint)
    output = model.get_output_embeddings()
    answer.require_within(output.weight.shape[0])
    ids = list(answer.ids)
    head = nn.Linear(output.weight.shape[1], len(ids), bias=output.bias is not None)
    rows = {name: parameter[ids] for name, parameter in output.named_parameters()}
    head.load_state_dict(rows)
    return TorchEncoder(model.base_model, checkpoint), head.to(output.weight)
