"""From the vectors of a text's tokens to one vector, on torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from torch import nn

from mlxsrv.backends.encoding import Pooling
from mlxsrv.backends.sentence import Dense, Head, LayerNorm
from mlxsrv.backends.weights import weight_files
from mlxsrv.core.errors import LoadError


def pool(hidden: torch.Tensor, modes: Sequence[Pooling], weights: torch.Tensor) -> torch.Tensor:
    """From hidden states to [rows, modes × dimensions], in float32.

    `weights` [rows, modes, width] are those of `token_weights`.
    """
    hidden = hidden.float()
    parts = weights @ hidden
    for place, mode in enumerate(modes):
        if mode is Pooling.MAX:
            ignored = weights[:, place, :, None] == 0
            parts[:, place] = hidden.masked_fill(ignored, -math.inf).amax(dim=1)
    return parts.flatten(1)


class SentenceHeads(nn.Module):
    """The layers that follow the pooling. Raises LoadError, CheckpointRefused."""

    def __init__(self, heads: Sequence[Head]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(_module(head) for head in heads)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        for head in self.heads:
            vectors = head(vectors)
        return vectors


class DenseHead(nn.Module):
    def __init__(self, head: Dense) -> None:
        super().__init__()
        self.linear = nn.Linear(head.inputs, head.outputs, bias=head.bias)
        _fill(self.linear, head.folder, head.linear)
        self._shortcut: nn.Module | None = None
        if head.residual:
            self._shortcut = nn.Identity()
        if head.residual and head.inputs != head.outputs:
            self._shortcut = nn.Linear(head.inputs, head.outputs, bias=False)
            _fill(self._shortcut, head.folder, "residual")
        self._activation: nn.Module = getattr(nn, head.activation)()

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self._activation(self.linear(vectors))
        return out if self._shortcut is None else out + self._shortcut(vectors)


class NormHead(nn.Module):
    def __init__(self, head: LayerNorm) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(head.dimension)
        _fill(self.norm, head.folder, "norm")

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        normed: torch.Tensor = self.norm(vectors)
        return normed


class UnitHead(nn.Module):
    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        return nn.functional.normalize(vectors, dim=-1)


def _module(head: Head) -> nn.Module:
    if isinstance(head, Dense):
        return DenseHead(head)
    return NormHead(head) if isinstance(head, LayerNorm) else UnitHead()


def _fill(layer: nn.Module, folder: Path, name: str) -> None:
    """Gives a layer its weights, which are called `name` in the folder's files."""
    own = {f"{name}.{part}": part for part, _ in layer.named_parameters()}
    found: dict[str, torch.Tensor] = {}
    for file in weight_files(folder):
        with safe_open(file, framework="pt") as tensors:
            there = set(tensors.keys())
            found |= {part: tensors.get_tensor(key) for key, part in own.items() if key in there}
    missing = own.keys() - {f"{name}.{part}" for part in found}
    if missing:
        raise LoadError(f"{folder} lacks {min(missing)}")
    layer.load_state_dict({part: tensor.float() for part, tensor in found.items()})
