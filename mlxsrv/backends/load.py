"""Loading a checkpoint on the backend that was chosen. Runs on the device thread."""

from __future__ import annotations

from mlxsrv.backends.base import TextBackend
from mlxsrv.backends.checkpoint import Checkpoint
from mlxsrv.backends.pacing import PrefillPacer
from mlxsrv.backends.select import Backend
from mlxsrv.core.errors import LoadError


def load_text(backend: Backend, checkpoint: Checkpoint, *, pacer: PrefillPacer) -> TextBackend:
    """Raises LoadError."""
    if backend == "mlx":
        from mlxsrv.backends.mlx import load as mlx

        return mlx.load_text(checkpoint.folder, pacer=pacer)
    if checkpoint.mlx_quantized:
        raise LoadError(
            f"{checkpoint.folder.name} is quantised for MLX, which the torch backend can't read: "
            "serve it with --backend mlx, or use the unquantised checkpoint"
        )
    from mlxsrv.backends.torch import load as torch

    return torch.load_text(
        checkpoint.folder,
        weight_bytes=checkpoint.weight_bytes,
        pacer=pacer,
    )


def at_thread_exit(backend: Backend) -> None:
    """What the backend needs done last on the device thread."""
    if backend == "mlx":
        from mlxsrv.backends.mlx import load as mlx

        mlx.at_thread_exit()
