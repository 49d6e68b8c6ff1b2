"""Whisper models: from a loaded backend to a model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mlxsrv.backends.base import TranscriptionBackend
from mlxsrv.backends.checkpoint import Checkpoint
from mlxsrv.backends.device import Device
from mlxsrv.backends.load import free
from mlxsrv.config.settings import Settings
from mlxsrv.core.meters import TranscriptionMeters
from mlxsrv.engines.memory import MemoryBudget
from mlxsrv.engines.model import TranscriptionModel
from mlxsrv.engines.transcription import TranscriptionEngine
from mlxsrv.engines.whisper.rules import Rules
from mlxsrv.engines.whisper.transcript import Whisper
from mlxsrv.engines.whisper.vocabulary import read_vocabulary


async def load_transcription(
    name: str,
    backend: TranscriptionBackend,
    found: Checkpoint,
    settings: Settings,
    device: Device,
    *,
    memory: MemoryBudget,
    recording_bytes: int = 0,
    on_short: Callable[[int], None] = lambda nbytes: None,
    meters: TranscriptionMeters | None = None,
) -> TranscriptionModel:
    """Makes a model of a backend that is loaded; the last four are the engine's.

    Raises LoadError.
    """
    try:
        vocabulary = await asyncio.to_thread(
            read_vocabulary, found.folder, backend.shape.vocab_size
        )
    except BaseException:
        await device.call(lambda: _free(backend), kind="unload")
        raise
    whisper = Whisper(backend.shape, vocabulary, Rules.of(vocabulary))
    engine = TranscriptionEngine(
        device,
        backend,
        whisper,
        max_batch=settings.engine.max_batch,
        max_queue=settings.api.max_queue,
        memory=memory,
        recording_bytes=recording_bytes,
        on_short=on_short,
        meters=meters,
    )
    return TranscriptionModel(name, engine, backend.facts, whisper)


def _free(backend: TranscriptionBackend) -> None:
    backend.close()
    free(backend.facts.backend)
