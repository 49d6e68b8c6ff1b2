"""Loading a text checkpoint with mlx-lm."""

from __future__ import annotations

import contextlib
import os
import resource
from pathlib import Path

import mlx.core as mx

from mlxsrv.backends.mlx.text import MlxTextBackend
from mlxsrv.backends.pacing import PrefillPacer
from mlxsrv.core.errors import LoadError

CPU_BYTES_PER_SECOND = 500_000_000  # fresh memory, page by page
GPU_BYTES_PER_SECOND = 100_000_000_000


def load_text(folder: Path, *, pacer: PrefillPacer) -> MlxTextBackend:
    """Loads a Hugging Face folder, quantised or not. Raises LoadError.

    On the CPU everything is computed in float32: its half-precision kernels are an order of
    magnitude slower.
    """
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    from mlx_lm.utils import load_model, maybe_set_recommended_wired_limit

    # mlx-lm lowers the limit on open files as it is imported; a server needs its sockets.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    # Metal may page weights out again unless they are wired.
    maybe_set_recommended_wired_limit()
    try:
        model, _ = load_model(folder, lazy=True)
        if mx.default_device() == mx.Device(mx.cpu):
            model.set_dtype(mx.float32)
        mx.eval(model.parameters())
        vocab_size = model(mx.array([[0]])).shape[-1]
    except (ValueError, KeyError, TypeError, RuntimeError, OSError) as error:
        raise LoadError(f"MLX can't load {folder.name}: {error}") from error
    return MlxTextBackend(
        model, vocab_size, pacer=pacer, padding_allowed=_bytes_copied_in(pacer.slice_seconds)
    )


def _bytes_copied_in(seconds: float) -> int:
    """How much cache can be copied to new memory in this time, by what such devices usually
    reach; at most a sixteenth of the memory."""
    on_cpu = mx.default_device() == mx.Device(mx.cpu)
    bandwidth = CPU_BYTES_PER_SECOND if on_cpu else GPU_BYTES_PER_SECOND
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(int(seconds * bandwidth), memory // 16)


def at_thread_exit() -> None:
    """MLX aborts the process when a thread ends with streams of its own still open."""
    mx.synchronize()
    mx.clear_streams()
