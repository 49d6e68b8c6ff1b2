"""LoRA adapters on MLX: in one batch, each row with its own, over one copy of the base.

Every linear layer that an adapter changes is wrapped. The wrapper holds the matrices of all
its adapters, stacked, from which each row of the batch takes those of its own (the idea of
S-LoRA, arXiv:2311.03285).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten

from mlxsrv.backends.adapter import PARAM, Adapter, LowRank, fitted
from mlxsrv.core.errors import InvalidRequest


@dataclass(slots=True)
class _Choice:
    """Which of these adapters each row uses in the forward pass that is under way.

    `slots` is None where no row uses one, a number where all use the same, else [rows]. Slot
    0 means none of them.
    """

    names: tuple[str, ...]
    slots: mx.array | int | None = None

    def take(self, rows: Sequence[str | None]) -> None:
        slots = [self.names.index(name) + 1 if name in self.names else 0 for name in rows]
        if not any(slots):
            self.slots = None
        else:
            self.slots = slots[0] if len(set(slots)) == 1 else mx.array(slots, mx.uint32)


@dataclass(frozen=True, slots=True)
class _Bank:
    """The adapters of one rank in one layer: `a` [slots, inputs, rank], `b` [slots, rank,
    outputs], zero in slot 0. Their scale is in `b`."""

    choice: _Choice
    a: mx.array
    b: mx.array

    def gain(self, x: mx.array) -> mx.array:
        """What is added to the layer's output for `x`: [rows, ..., inputs], or [tokens, inputs]
        with as many tokens of each row."""
        slots = self.choice.slots
        if isinstance(slots, int):
            return (x @ self.a[slots]) @ self.b[slots]
        assert slots is not None
        if x.shape[0] != slots.size and (x.ndim > 2 or x.shape[0] % slots.size):
            raise ValueError("one of its layers does not keep the rows of a batch apart")
        rows = x.reshape(slots.size, -1, x.shape[-1])
        narrow = mx.gather_mm(rows, self.a, rhs_indices=slots)
        gain = mx.gather_mm(narrow, self.b, rhs_indices=slots)
        return gain.reshape(*x.shape[:-1], -1)


class LoraLinear(nn.Module):
    """A linear layer, quantised or not, with the adapters that change it."""

    def __init__(self, linear: nn.Module) -> None:
        super().__init__()
        self.linear = linear
        self.banks: tuple[_Bank, ...] = ()

    def __call__(self, x: mx.array) -> mx.array:
        y = self.linear(x)
        for bank in self.banks:
            if bank.choice.slots is not None:
                y = y + bank.gain(x).astype(y.dtype)
        return y


class Adapters:
    """The adapters of one model. Call `use` before every forward pass."""

    def __init__(self, model: nn.Module, *, batches: bool = True) -> None:
        """`batches`: whether rows with different adapters run together, in a text model."""
        self._model = model
        self._batches = batches
        self._linears = {
            path: module
            for path, module in model.named_modules()
            if isinstance(module, nn.Linear | nn.QuantizedLinear)
        }
        self._wrapped: dict[str, LoraLinear] = {}
        self._choices: dict[tuple[str, ...], _Choice] = {}

    def __contains__(self, name: object) -> bool:
        return any(name in names for names in self._choices)

    def use(self, rows: Sequence[str | None]) -> None:
        """Says which adapter each row of the next forward pass is for."""
        for choice in self._choices.values():
            choice.take(rows)

    def add(self, name: str, adapter: Adapter) -> None:
        """Raises InvalidRequest, with everything as it was, where it does not fit the model."""
        if name in self:
            raise InvalidRequest(f"there is an adapter {name} already", param="lora_name")
        sizes = {path: _sizes(linear) for path, linear in self._linears.items()}
        layers = fitted(adapter, sizes)
        with ExitStack() as undo:
            undo.callback(self.remove, name)
            self._wrap([path for path in layers if path not in self._wrapped])
            for path, layer in layers.items():
                self._put(path, name, layer)
            self._prune()
            if self._batches:
                self._try_out(name)
            undo.pop_all()

    def _wrap(self, paths: list[str]) -> None:
        wrapped = {path: LoraLinear(self._linears[path]) for path in paths}
        self._model.update_modules(tree_unflatten(list(wrapped.items())))
        self._wrapped |= wrapped

    def _put(self, path: str, name: str, layer: LowRank) -> None:
        wrapped, dtype = self._wrapped[path], _dtype(self._linears[path])
        a = mx.array(layer.a.T)[None].astype(dtype)
        b = mx.array(layer.b.T * layer.scale)[None].astype(dtype)
        names: tuple[str, ...] = (name,)
        same = next((bank for bank in wrapped.banks if bank.a.shape[-1] == layer.rank), None)
        if same is not None:
            names = (*same.choice.names, name)
        before = (mx.zeros_like(a), mx.zeros_like(b)) if same is None else (same.a, same.b)
        stacks = mx.concatenate([before[0], a]), mx.concatenate([before[1], b])
        mx.eval(stacks)
        others = tuple(bank for bank in wrapped.banks if bank is not same)
        wrapped.banks = (*others, _Bank(self._choice(names), *stacks))

    def _choice(self, names: tuple[str, ...]) -> _Choice:
        return self._choices.setdefault(names, _Choice(names))

    def _try_out(self, name: str) -> None:
        """A model that uses a layer otherwise than by calling it must not fail in a batch."""
        self.use((name, None))
        try:
            mx.eval(self._model(mx.zeros((2, 2), mx.int32)))
        except (ValueError, TypeError, AttributeError, RuntimeError) as error:
            raise InvalidRequest(
                f"this model can't run with the adapter: {error}", param=PARAM
            ) from error

    def remove(self, name: str) -> None:
        """Puts back the layers that no other adapter changes."""
        for wrapped in self._wrapped.values():
            banks = (self._without(name, bank) for bank in wrapped.banks)
            wrapped.banks = tuple(bank for bank in banks if bank is not None)
        bare = [path for path, wrapped in self._wrapped.items() if not wrapped.banks]
        self._model.update_modules(tree_unflatten([(path, self._linears[path]) for path in bare]))
        for path in bare:
            del self._wrapped[path]
        self._prune()

    def _prune(self) -> None:
        banks = (bank for wrapped in self._wrapped.values() for bank in wrapped.banks)
        self._choices = {bank.choice.names: bank.choice for bank in banks}

    def _without(self, name: str, bank: _Bank) -> _Bank | None:
        names = bank.choice.names
        if name not in names:
            return bank
        if names == (name,):
            return None
        slots = mx.array([0, *(1 + place for place, n in enumerate(names) if n != name)])
        stacks = bank.a[slots], bank.b[slots]
        mx.eval(stacks)
        return _Bank(self._choice(tuple(n for n in names if n != name)), *stacks)


def _sizes(linear: nn.Module) -> tuple[int, int]:
    """Inputs and outputs; quantised weights are packed into 32-bit words."""
    outputs, columns = linear.weight.shape
    quantised = isinstance(linear, nn.QuantizedLinear)
    return columns * 32 // linear.bits if quantised else columns, outputs


def _dtype(linear: nn.Module) -> mx.Dtype:
    """What the layer computes in."""
    stored = linear.scales if isinstance(linear, nn.QuantizedLinear) else linear.weight
    return stored.dtype if mx.issubdtype(stored.dtype, mx.floating) else mx.float32
