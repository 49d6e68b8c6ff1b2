"""Loading a text checkpoint with mlx-lm."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import mlx.core as mx
from mlx_lm.utils import load_model, maybe_set_recommended_wired_limit

from mlxsrv.backends.mlx.memory import on_cpu
from mlxsrv.backends.mlx.text import MlxTextBackend
from mlxsrv.backends.mlx.weights import read_weights
from mlxsrv.backends.pacing import PrefillPacer
from mlxsrv.core.errors import LoadError

CPU_BYTES_PER_SECOND = 500_000_000  # fresh memory, page by page
GPU_BYTES_PER_SECOND = 100_000_000_000


def load_text(folder: Path, *, pacer: PrefillPacer) -> Generator[int, None, MlxTextBackend]:
    """Loads a Hugging Face folder, quantised or not; yields the bytes read. Raises LoadError.

    On the CPU everything is computed in float32: its half-precision kernels are an order of
    magnitude slower.
    """
    # Metal may page weights out again unless they are wired.
    maybe_set_recommended_wired_limit()
    try:
        model, _ = load_model(folder, lazy=True)
        if on_cpu():
            model.set_dtype(mx.float32)
        yield from read_weights(model)
        vocab_size = model(mx.array([[0]])).shape[-1]
    except (ValueError, KeyError, TypeError, RuntimeError, OSError) as error:
        raise LoadError(f"MLX can't load {folder.name}: {error}") from error
    return MlxTextBackend(
        model, vocab_size, pacer=pacer, padding_allowed=_bytes_copied_in(pacer.slice_seconds)
    )


def _bytes_copied_in(seconds: float) -> int:
    """How much cache can be copied to new memory in this time, by what such devices usually
    reach; at most a sixteenth of the memory."""
    bandwidth = CPU_BYTES_PER_SECOND if on_cpu() else GPU_BYTES_PER_SECOND
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(int(seconds * bandwidth), memory // 16)


def at_thread_exit() -> None:
    """MLX aborts the process when a thread ends with streams of its own still open."""
    mx.synchronize()
    mx.clear_streams()
