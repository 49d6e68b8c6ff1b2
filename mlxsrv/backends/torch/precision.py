"""On what device, in what numbers and on how many threads a model runs on torch."""

from __future__ import annotations

import os

import torch

from mlxsrv.backends.checkpoint import Checkpoint

SMALL_BYTES = 1_000_000_000
ONE_THREAD_BYTES = 64_000_000
"""Below this the threads of one operation cost more to wake than they save."""


def device_name() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def dtype_for(device: str, weight_bytes: int) -> torch.dtype | str:
    """float32 for small models on the CPU, where it is exact and as fast; else as stored.

    bfloat16 reads half the memory per token, which is what large models wait for; float16
    has no fast kernels on the CPU, so it is widened too.
    """
    if device == "cpu":
        return torch.float32 if weight_bytes < SMALL_BYTES else torch.bfloat16
    return "auto"


def encoder_dtype(device: str, checkpoint: Checkpoint) -> torch.dtype | str:
    """As above, but never narrower than stored: vectors are compared by their last digits."""
    if device == "cpu" and checkpoint.dtype != "bfloat16":
        return torch.float32
    return dtype_for(device, checkpoint.weight_bytes)


def threads_for(weight_bytes: int) -> int:
    return 1 if weight_bytes < ONE_THREAD_BYTES else os.cpu_count() or 1


def use_threads(count: int) -> None:
    """Models of several sizes share a process, so each sets its own number as it runs."""
    if torch.get_num_threads() != count:
        torch.set_num_threads(count)
