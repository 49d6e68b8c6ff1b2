"""Models that speak, on MLX."""

from __future__ import annotations

from collections.abc import Generator

from mlxsrv.backends.base import SpeechBackend
from mlxsrv.backends.checkpoint import Checkpoint
from mlxsrv.core.errors import LoadError


def load_speech(checkpoint: Checkpoint) -> Generator[int, None, SpeechBackend]:
    """Yields the bytes read so far. Raises LoadError."""
    if checkpoint.model_type == "vibevoice":
        from mlxsrv.backends.mlx.vibevoice import load_vibevoice

        return (yield from load_vibevoice(checkpoint))
    if checkpoint.model_type == "vibevoice_streaming":
        from mlxsrv.backends.mlx.vibevoice_realtime import load_realtime

        return (yield from load_realtime(checkpoint))
    if checkpoint.model_type == "kokoro":
        from mlxsrv.backends.mlx.kokoro import load_kokoro

        return (yield from load_kokoro(checkpoint))
    raise LoadError(
        f"{checkpoint.folder.name} is a {checkpoint.model_type} model, which the MLX backend "
        "can't speak with: it takes Kokoro (such as mlx-community/Kokoro-82M-bf16) and VibeVoice"
    )
