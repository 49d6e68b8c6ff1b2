"""Rows of a batch one behind the other, without padding, through transformers' encoders.

On a CPU what padding costs is real work, and a batch of rows of any lengths then takes as long
as its tokens. Everything but attention looks at one token at a time; attention is computed row
by row.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.nn.utils.rnn import pad_sequence
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from mlxsrv.backends.encoding import Batch

ATTENTION = "mlxsrv_rows"

_AFTER_PADDING = frozenset({"camembert", "roberta", "xlm-roberta"})
"""Number their positions from the padding token's id, and leave that token out."""

FAMILIES = _AFTER_PADDING | {"bert"}
"""Whose models take positions, and hand what they don't know down to the attention."""


def can_pack(model: PreTrainedModel) -> bool:
    """On a GPU one padded attention is faster than many small ones."""
    return model.device.type == "cpu" and model.config.model_type in FAMILIES


def prepare(model: PreTrainedModel) -> None:
    """From now on the model takes packed batches only."""
    AttentionInterface.register(ATTENTION, _attend)
    AttentionMaskInterface.register(ATTENTION, _no_mask)
    model.set_attn_implementation(ATTENTION)


def hidden_states(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    """The last hidden states [rows, width, dimensions], zeros where there is padding."""
    real = np.arange(batch.ids.shape[1]) < batch.lengths[:, None]
    inputs: dict[str, np.ndarray[Any, Any]] = {
        "input_ids": batch.ids,
        "position_ids": _positions(model, batch),
    }
    if batch.types is not None and model.config.type_vocab_size > 1:
        inputs["token_type_ids"] = batch.types
    packed = {
        name: torch.from_numpy(array[real].astype(np.int64))[None] for name, array in inputs.items()
    }
    lengths = batch.lengths.tolist()
    hidden: torch.Tensor = model(**packed, row_lengths=lengths).last_hidden_state[0]
    return pad_sequence(list(hidden.split(lengths)), batch_first=True)


def _positions(model: PreTrainedModel, batch: Batch) -> np.ndarray[Any, np.dtype[np.int64]]:
    if model.config.model_type in _AFTER_PADDING:
        padding = model.config.pad_token_id
        told = batch.ids != padding
        return np.cumsum(told, axis=1) * told + padding
    return np.broadcast_to(np.arange(batch.ids.shape[1]), batch.ids.shape)


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    row_lengths: Sequence[int],
    scaling: float | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Each row sees itself. Takes [1, heads, tokens, size], gives [1, tokens, heads, size]."""
    runs = [(length, len(list(rows))) for length, rows in groupby(row_lengths)]
    tokens = [length * rows for length, rows in runs]
    attended = []
    parts = zip(query.split(tokens, 2), key.split(tokens, 2), value.split(tokens, 2), strict=True)
    for (_, rows), run in zip(runs, parts, strict=True):
        q, k, v = (part[0].unflatten(1, (rows, -1)).transpose(0, 1) for part in run)
        seen = scaled_dot_product_attention(q, k, v, scale=scaling)
        attended.append(seen.transpose(1, 2).flatten(0, 1))
    return torch.cat(attended)[None], None


def _no_mask(*given: Any, **named: Any) -> None:
    """A row never sees another's tokens, and there is no padding."""
