"""Encoders of every architecture that transformers has, on torch."""

from __future__ import annotations

import contextlib
import inspect
import os
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from mlxsrv.backends.base import ModelFacts
from mlxsrv.backends.checkpoint import Checkpoint
from mlxsrv.backends.encoding import Batch
from mlxsrv.backends.jsonfile import read_object
from mlxsrv.backends.nomic import native_config
from mlxsrv.backends.sentence import both_ways
from mlxsrv.backends.torch import packing
from mlxsrv.backends.torch.precision import device_name, encoder_dtype, use_threads
from mlxsrv.core.errors import GenerationFailed, LoadError

ONE_THREAD_WORK = 1_000_000_000
"""Bytes of weights times tokens. Below this, threads cost more to wake than they save."""


class TorchEncoder:
    """A transformers model over batches that are padded on the right."""

    def __init__(
        self, model: PreTrainedModel, checkpoint: Checkpoint, *, packs: bool = False
    ) -> None:
        """With `packs` only hidden states can be had, of rows that are not padded for it."""
        self.model = model
        self.packs = packs
        if packs:
            packing.prepare(model)
        self._weight_bytes = checkpoint.weight_bytes
        # Padding behind a text changes nothing for who does not look ahead.
        self._needs_mask = not any(
            getattr(module, "is_causal", False) is True for module in model.modules()
        )
        if not self._needs_mask and getattr(model.config, "is_causal", True) is False:
            raise both_ways(checkpoint.folder)
        takes_types = "token_type_ids" in inspect.signature(model.forward).parameters
        self._tells_texts_apart = (
            takes_types and (getattr(model.config, "type_vocab_size", 0) or 0) > 1
        )

    @property
    def width(self) -> int:
        """Dimensions of its hidden states."""
        return int(self.model.config.get_text_config().hidden_size)

    @property
    def vocab_size(self) -> int:
        return int(self.model.get_input_embeddings().weight.shape[0])

    def __call__(self, batch: Batch) -> Any:
        """What the model gives for the batch; for an encoder `last_hidden_state`."""
        self._use_threads(batch.ids.size)
        inputs = {"input_ids": self.tensor(batch.ids)}
        real = batch.real
        if real is not None and self._needs_mask:
            inputs["attention_mask"] = self.tensor(real)
        if batch.types is not None and self._tells_texts_apart:
            inputs["token_type_ids"] = self.tensor(batch.types)
        return self.model(**inputs)

    def hidden_states(self, batch: Batch) -> torch.Tensor:
        """The last ones [rows, width, dimensions]; `packs` says whether padding costs."""
        if not self.packs:
            hidden: torch.Tensor = self(batch).last_hidden_state
            return hidden
        self._use_threads(int(batch.lengths.sum()))
        return packing.hidden_states(self.model, batch)

    def _use_threads(self, tokens: int) -> None:
        alone = self._weight_bytes * tokens < ONE_THREAD_WORK
        use_threads(1 if alone else os.cpu_count() or 1)

    def tensor(self, array: NDArray[Any]) -> torch.Tensor:
        """The array where the model is."""
        wide = array.astype(np.int64) if array.dtype == np.int32 else array
        return torch.from_numpy(wide).to(self.model.device)

    def last(self, hidden: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Of every row the last token's vector [rows, dimensions]."""
        places = torch.arange(len(hidden), device=hidden.device)
        return hidden[places, self.tensor(batch.lengths) - 1]

    def facts(self, *others: nn.Module) -> ModelFacts:
        """Of this model and the heads beside it."""
        parameters = [p for module in (self.model, *others) for p in module.parameters()]
        return ModelFacts(
            backend="torch",
            vocab_size=self.vocab_size,
            memory_bytes=sum(parameter.nbytes for parameter in parameters),
            dtype=str(self.model.dtype).removeprefix("torch."),
        )


@contextlib.contextmanager
def loading_errors(folder: Path) -> Iterator[None]:
    """What torch and transformers raise for weights that don't fit becomes a LoadError."""
    try:
        yield
    except (
        ValueError,
        LookupError,
        TypeError,
        RuntimeError,
        OSError,
        ImportError,
        AttributeError,
    ) as error:
        # Some name every tensor that is missing.
        reason = textwrap.shorten(str(error), 400)
        raise LoadError(f"torch can't load {folder.name}: {reason}") from error
    except GenerationFailed as error:
        raise LoadError(
            f"{folder.name} gives no numbers at all: its weights are damaged"
        ) from error


def load_model(
    auto: Any, checkpoint: Checkpoint, *, dispensable: Sequence[str] = ()
) -> PreTrainedModel:
    """Loads with one of transformers' Auto classes.

    Raises LoadError where weights are missing, which transformers would make up, unless their
    names begin with one of `dispensable`.
    """
    transformers_logging.disable_progress_bar()
    device = device_name()
    model, found = auto.from_pretrained(
        checkpoint.folder,
        config=_config(checkpoint.folder),
        dtype=encoder_dtype(device, checkpoint),
        use_safetensors=True,
        trust_remote_code=False,
        local_files_only=True,
        output_loading_info=True,
    )
    missing = sorted(
        name for name in found["missing_keys"] if not name.startswith(tuple(dispensable))
    )
    if missing:
        raise LoadError(
            f"{checkpoint.folder.name} lacks {len(missing)} of its tensors, such as {missing[0]}"
        )
    model.config.use_cache = False
    return model.to(device).eval()


def _config(folder: Path) -> PretrainedConfig:
    config = read_object(folder / "config.json")
    if config.get("model_type") == "nomic_bert":
        return AutoConfig.for_model(**native_config(config))
    return AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
