"""LoRA adapters on torch: in one batch, each row with its own, over one copy of the base.

A hook on every linear layer that an adapter changes adds to its output. The matrices of all
the layer's adapters lie side by side; one wide product computes those that the batch uses for
every row, and each row keeps what is its own. On a CPU, that is several times as fast as many
narrow products.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from mlxsrv.backends.adapter import PARAM, Adapter, LowRank, fitted
from mlxsrv.core.errors import InvalidRequest

Linear = Any
"""`nn.Linear`, or the `Conv1D` of GPT-2, which is one with its weights transposed."""

Members = tuple[tuple[str, int], ...]
"""The adapters of a layer and their ranks, in the order in which they lie there."""


@dataclass(slots=True)
class _Choice:
    """What the rows use of these adapters in the forward pass that is under way.

    `columns` are those of the adapters in use, None where there are none. `foreign` [rows, 1,
    columns] says which of them are not the row's own; None where all are.
    """

    members: Members
    columns: slice | torch.Tensor | None = None
    foreign: torch.Tensor | None = None

    def take(self, rows: Sequence[str | None], device: torch.device) -> None:
        self.columns, self.foreign = None, None
        numbers: dict[str | None, int] = {name: n for n, (name, _) in enumerate(self.members)}
        own = torch.tensor([numbers.get(row, -1) for row in rows])
        owners = torch.tensor([numbers[name] for name, rank in self.members for _ in range(rank)])
        used = torch.isin(owners, own).nonzero()[:, 0]
        if not len(used):
            return
        first, last = int(used[0]), int(used[-1])
        adjoin = last - first < len(used)
        self.columns = slice(first, last + 1) if adjoin else used.to(device)
        if len(set(rows)) > 1:
            self.foreign = (owners[used] != own[:, None])[:, None].to(device)


class _Layer:
    """The adapters of one linear layer: `a` [columns, inputs], `b` [columns, outputs].

    A column is one dimension of one adapter's rank. Their scale is in `b`.
    """

    def __init__(self, linear: Linear, a: torch.Tensor, b: torch.Tensor, choice: _Choice) -> None:
        self.a, self.b, self.choice = a, b, choice
        self.hook = linear.register_forward_hook(self._change)

    def _change(self, linear: Linear, args: tuple[Any, ...], y: torch.Tensor) -> torch.Tensor:
        columns, foreign = self.choice.columns, self.choice.foreign
        if columns is None:
            return y
        narrow = functional.linear(args[0], self.a[columns])
        if foreign is not None:
            if len(y) != len(foreign) and (y.ndim > 2 or len(y) % len(foreign)):
                raise ValueError("one of its layers does not keep the rows of a batch apart")
            # Not multiplied by zero: what overflows in one row must not reach another.
            narrow.view(len(foreign), -1, narrow.shape[-1]).masked_fill_(foreign, 0)
        y.view(-1, y.shape[-1]).addmm_(narrow.flatten(0, -2), self.b[columns])
        return y


class Adapters:
    """The adapters of one model. Call `use` before every forward pass."""

    def __init__(self, model: Any, *, reads_tokens: bool = True) -> None:
        """Of a model that reads tokens, an adapter is tried out before it is used."""
        self._model = model
        self._reads_tokens = reads_tokens
        self._linears = {
            path: module
            for path, module in model.named_modules()
            if isinstance(module, nn.Linear | Conv1D)
        }
        self._layers: dict[str, _Layer] = {}
        self._choices: dict[Members, _Choice] = {}

    def __contains__(self, name: object) -> bool:
        return any(name in dict(members) for members in self._choices)

    def use(self, rows: Sequence[str | None]) -> None:
        """Says which adapter each row of the next forward pass is for."""
        if self._choices:
            device = self._model.device
            for choice in self._choices.values():
                choice.take(rows, device)

    @torch.inference_mode()
    def add(self, name: str, adapter: Adapter) -> None:
        """Raises InvalidRequest, with everything as it was, where it does not fit the model."""
        if name in self:
            raise InvalidRequest(f"there is an adapter {name} already", param="lora_name")
        sizes = {path: _sizes(linear) for path, linear in self._linears.items()}
        layers = fitted(adapter, sizes)
        with ExitStack() as undo:
            undo.callback(self.remove, name)
            for path, layer in layers.items():
                self._put(path, name, layer)
            self._prune()
            if self._reads_tokens:
                self._try_out(name)
            undo.pop_all()

    def _put(self, path: str, name: str, low_rank: LowRank) -> None:
        linear, member = self._linears[path], (name, low_rank.rank)
        dtype, device = _dtype(linear, self._model.dtype), linear.weight.device
        a = torch.tensor(low_rank.a, dtype=dtype, device=device)
        b = torch.tensor(low_rank.b.T * low_rank.scale, dtype=dtype, device=device)
        layer = self._layers.get(path)
        if layer is None:
            self._layers[path] = _Layer(linear, a, b, self._choice((member,)))
        else:
            layer.a, layer.b = torch.cat([layer.a, a]), torch.cat([layer.b, b])
            layer.choice = self._choice((*layer.choice.members, member))

    def _choice(self, members: Members) -> _Choice:
        return self._choices.setdefault(members, _Choice(members))

    def _try_out(self, name: str) -> None:
        """A model that uses a layer in an unusual way must not fail in a batch."""
        self.use((name, None))
        try:
            tokens = torch.zeros(2, 2, dtype=torch.long, device=self._model.device)
            self._model(input_ids=tokens, use_cache=False)
        except (ValueError, TypeError, AttributeError, RuntimeError) as error:
            raise InvalidRequest(
                f"this model can't run with the adapter: {error}", param=PARAM
            ) from error

    @torch.inference_mode()
    def remove(self, name: str) -> None:
        """Leaves those layers alone that no other adapter changes."""
        for path, layer in list(self._layers.items()):
            members = tuple(member for member in layer.choice.members if member[0] != name)
            if not members:
                layer.hook.remove()
                del self._layers[path]
            elif members != layer.choice.members:
                owners = [owner for owner, rank in layer.choice.members for _ in range(rank)]
                stay = torch.tensor([owner != name for owner in owners], device=layer.a.device)
                layer.a, layer.b = layer.a[stay], layer.b[stay]
                layer.choice = self._choice(members)
        self._prune()

    def _prune(self) -> None:
        choices = (layer.choice for layer in self._layers.values())
        self._choices = {choice.members: choice for choice in choices}


def _sizes(linear: Linear) -> tuple[int, int]:
    """Inputs and outputs."""
    if isinstance(linear, Conv1D):
        return linear.nx, linear.nf
    return linear.in_features, linear.out_features


def _dtype(linear: Linear, fallback: torch.dtype) -> torch.dtype:
    """What the layer computes in; quantised ones are not stored in it."""
    stored: torch.dtype = linear.weight.dtype
    return stored if stored in {torch.float32, torch.float16, torch.bfloat16} else fallback
