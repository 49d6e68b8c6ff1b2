"""Models that speak, on torch."""

from __future__ import annotations

from mlxsrv.backends.base import SpeechBackend
from mlxsrv.backends.checkpoint import Checkpoint
from mlxsrv.core.errors import LoadError


def load_speech(checkpoint: Checkpoint) -> SpeechBackend:
    """Raises LoadError."""
    if checkpoint.model_type == "vibevoice":
        from mlxsrv.backends.torch.vibevoice import load_vibevoice

        return load_vibevoice(checkpoint)
    if checkpoint.model_type == "vits":
        from mlxsrv.backends.torch.vits import load_vits

        return load_vits(checkpoint)
    raise LoadError(
        f"{checkpoint.folder.name} is a {checkpoint.model_type} model, which the torch backend "
        "can't speak with: it takes VITS (such as facebook/mms-tts-eng) and VibeVoice"
    )
