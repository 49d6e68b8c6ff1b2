"""Activations, by what Hugging Face configurations call them.

MLX's own are compiled, which is best on Metal; on the CPU that would call a C++ compiler and
gain nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import mlx.core as mx
import mlx.nn as nn

from mlxsrv.backends.mlx.exponential import exponential
from mlxsrv.backends.mlx.memory import on_cpu
from mlxsrv.core.errors import LoadError

Activation = Callable[[mx.array], mx.array]


def _sigmoid(x: mx.array) -> mx.array:
    return 1 / (1 + exponential(-x))


def silu(x: mx.array) -> mx.array:
    return x * _sigmoid(x) if on_cpu() else nn.silu(x)


def gelu(x: mx.array) -> mx.array:
    return x * (1 + mx.erf(x / math.sqrt(2))) / 2 if on_cpu() else nn.gelu(x)


def gelu_tanh(x: mx.array) -> mx.array:
    """With tanh in place of the error function (arXiv:1606.08415)."""
    if not on_cpu():
        return nn.gelu_approx(x)
    slope = 2 * math.sqrt(2 / math.pi)
    return x * _sigmoid(x * (slope + (slope * 0.044715) * (x * x)))


def quick_gelu(x: mx.array) -> mx.array:
    return x * _sigmoid(1.702 * x) if on_cpu() else nn.gelu_fast_approx(x)


_NAMED: dict[str, Activation] = {
    "gelu": gelu,
    "gelu_new": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "quick_gelu": quick_gelu,
    "relu": nn.relu,
    "silu": silu,
    "swish": silu,
}


def named_activation(name: str) -> Activation:
    """Raises LoadError where it is not served."""
    if name not in _NAMED:
        raise LoadError(f"the activation {name!r} is not served on MLX")
    return _NAMED[name]
