"""LoRA adapters, and how they fit a model. Pure: the backends apply them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlxsrv.core.errors import Conflict, InvalidRequest
from mlxsrv.core.text import Sequence

PARAM = "lora_path"

_WRAPPERS = frozenset({"model", "language_model", "text_model", "transformer"})
"""What libraries put before the name of a text model's layer, each in its own way."""


@dataclass(frozen=True, slots=True)
class LowRank:
    """What one linear layer's output gains: `scale * (x @ a.T) @ b.T` (arXiv:2106.09685).

    `a` [rank, inputs], `b` [outputs, rank].
    """

    a: NDArray[np.float32]
    b: NDArray[np.float32]
    scale: float

    @property
    def rank(self) -> int:
        return int(self.a.shape[0])

    @property
    def sizes(self) -> tuple[int, int]:
        """Inputs and outputs of the layer it is made for."""
        return int(self.a.shape[1]), int(self.b.shape[0])


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter's layers by the path of the module they belong to, `model.layers.0.…`."""

    folder: Path
    layers: Mapping[str, LowRank]

    @property
    def rank(self) -> int:
        return max(layer.rank for layer in self.layers.values())

    @property
    def nbytes(self) -> int:
        return sum(layer.a.nbytes + layer.b.nbytes for layer in self.layers.values())


def require(name: str | None, known: Container[str]) -> None:
    """Raises InvalidRequest where an adapter is named that is not there."""
    if name is not None and name not in known:
        raise InvalidRequest(f"there is no adapter {name}", param="model")


def require_unused(name: str, sequences: Iterable[Sequence]) -> None:
    """Raises Conflict where a sequence uses the adapter."""
    if any(sequence.adapter == name for sequence in sequences):
        raise Conflict(f"the adapter {name} is in use")


def fitted(adapter: Adapter, linears: Mapping[str, tuple[int, int]]) -> dict[str, LowRank]:
    """The adapter's layers by the model's own module paths.

    `linears` are the inputs and outputs of each linear layer of the model. Raises
    InvalidRequest where the adapter was made for another model.
    """
    own_paths = _by_short_name(linears)
    found: dict[str, LowRank] = {}
    for path, layer in adapter.layers.items():
        own = path if path in linears else own_paths.get(_short(path))
        if own is None:
            raise _misfit(f"{path} is not a linear layer of this model")
        if own in found:
            raise _misfit(f"{path} and another of its layers are the same in this model")
        if layer.sizes != linears[own]:
            theirs, ours = (
                "{} inputs and {} outputs".format(*sizes) for sizes in (layer.sizes, linears[own])
            )
            raise _misfit(f"{path} has {theirs} in the adapter, {ours} in this model")
        found[own] = layer
    return found


def _by_short_name(paths: Iterable[str]) -> dict[str, str]:
    shorts = {path: _short(path) for path in paths}
    count = Counter(shorts.values())
    return {short: path for path, short in shorts.items() if count[short] == 1}


def _short(path: str) -> str:
    """`path` from the first part on that says which layer of a text model it is."""
    parts = path.split(".")
    first = next((i for i, part in enumerate(parts) if part not in _WRAPPERS), 0)
    return ".".join(parts[first:])


def _misfit(why: str) -> InvalidRequest:
    return InvalidRequest(f"the adapter was made for another base model: {why}", param=PARAM)
