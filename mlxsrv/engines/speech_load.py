"""Models that speak: from a loaded backend to a model."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlxsrv.backends.base import SpeechBackend
from mlxsrv.backends.device import Device
from mlxsrv.backends.load import free
from mlxsrv.config.settings import ModelSettings, Settings
from mlxsrv.core.errors import InvalidRequest, LoadError
from mlxsrv.core.meters import SpeechMeters
from mlxsrv.core.speech import LONGEST_VOICE_SECONDS, SpeechFacts
from mlxsrv.engines.model import SpeechModel
from mlxsrv.engines.speech import SpeechEngine
from mlxsrv.media.audio_decode import read_voice


async def load_speech(
    name: str,
    backend: SpeechBackend,
    own: ModelSettings,
    settings: Settings,
    device: Device,
    meters: SpeechMeters | None = None,
) -> SpeechModel:
    """Makes a model of a backend that is loaded. Raises LoadError."""
    try:
        prompt = await asyncio.to_thread(_prompt, name, backend, own.voice_prompt)
    except BaseException:
        await device.call(lambda: _free(backend), kind="unload")
        raise
    engine = SpeechEngine(device, backend, max_queue=settings.api.max_queue, meters=meters)
    facts = SpeechFacts(backend.sample_rate, backend.clones, backend.voices, backend.default_voice)
    return SpeechModel(name, engine, backend.facts, facts, prompt)


def _prompt(name: str, backend: SpeechBackend, file: Path | None) -> NDArray[np.float32] | None:
    if file is None:
        return None
    if not backend.clones:
        raise LoadError(f"{name}: voice_prompt: this model can't speak with other voices")
    try:
        return read_voice(
            file,
            rate=backend.sample_rate,
            max_seconds=LONGEST_VOICE_SECONDS,
            param="voice_prompt",
        )
    except InvalidRequest as error:
        raise LoadError(f"{name}: voice_prompt: {error.message}") from error
    except OSError as error:
        raise LoadError(f"{name}: voice_prompt: {error.strerror}") from error


def _free(backend: SpeechBackend) -> None:
    backend.close()
    free(backend.facts.backend)
