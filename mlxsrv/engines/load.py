"""From a checkpoint to a running model: backend, tokenizer and engine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from mlxsrv.backends import load
from mlxsrv.backends.adapter import Adapter
from mlxsrv.backends.adapter_files import read_adapter
from mlxsrv.backends.checkpoint import Checkpoint
from mlxsrv.backends.device import Device
from mlxsrv.backends.footprint import Footprint
from mlxsrv.backends.image_adapter_files import read_image_adapter
from mlxsrv.backends.pacing import PrefillPacer
from mlxsrv.backends.select import Backend
from mlxsrv.config.settings import ModelSettings, Settings
from mlxsrv.core.errors import InvalidRequest, LoadError
from mlxsrv.core.kinds import TEXT_KINDS, Kind
from mlxsrv.core.meters import (
    EncoderMeters,
    ImageMeters,
    SpeechMeters,
    TextMeters,
    TranscriptionMeters,
)
from mlxsrv.engines import embedding, rerank
from mlxsrv.engines.context import context_of
from mlxsrv.engines.image_load import load_image, options_of
from mlxsrv.engines.memory import MemoryBudget
from mlxsrv.engines.model import ImageModel, Model, TextModel
from mlxsrv.engines.speech_load import load_speech
from mlxsrv.engines.text import TextEngine
from mlxsrv.engines.tokenizer import TextTokenizer
from mlxsrv.engines.transcription_load import load_transcription

A = TypeVar("A", TextModel, ImageModel)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a model is loaded into. `buffers` bounds the arrays that kept prefixes may hold."""

    settings: Settings
    device: Device
    backend: Backend
    memory: MemoryBudget
    buffers: int | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """A model to load: under which name, from what, as what.

    `own` is what the configuration says of it. `meters` go on counting where an earlier load
    of it stopped. `on_progress` hears of the bytes in place so far, `on_short` of the bytes
    that a request waits for; the latter is called on the device thread. `staged`: see
    `ImageOptions`.
    """

    name: str
    kind: Kind
    found: Checkpoint
    own: ModelSettings
    footprint: Footprint
    staged: bool = False
    adapter: Path | None = None
    text_meters: TextMeters | None = None
    encoder_meters: EncoderMeters | None = None
    transcription_meters: TranscriptionMeters | None = None
    speech_meters: SpeechMeters | None = None
    image_meters: ImageMeters | None = None
    on_progress: Callable[[int], None] | None = None
    on_short: Callable[[int], None] = lambda nbytes: None


async def load_model(wanted: Wanted, around: Surroundings) -> Model:
    """Loads a model: its weights on the device thread, its tokenizer on another.

    Raises LoadError and its kin; nothing is left behind then.
    """
    if wanted.own.quantize is not None and wanted.kind is not Kind.IMAGE:
        raise LoadError(f"{wanted.name}: quantize: only image models are packed as they are loaded")
    if wanted.kind in TEXT_KINDS:
        return await _load_text(wanted, around)
    device, settings, found = around.device, around.settings, wanted.found
    if wanted.kind is Kind.EMBEDDING:
        embedder = await device.run(
            "load",
            lambda: load.load_embedding(around.backend, found),
            on_step=wanted.on_progress,
        )
        return await embedding.load_embedding(
            wanted.name, embedder, found, wanted.own, settings, device, wanted.encoder_meters
        )
    if wanted.kind is Kind.RERANK:
        ranker = await device.run(
            "load", lambda: load.load_rerank(around.backend, found), on_step=wanted.on_progress
        )
        return await rerank.load_rerank(
            wanted.name, ranker, found, wanted.own, settings, device, wanted.encoder_meters
        )
    if wanted.kind is Kind.STT:
        listener = await device.run(
            "load",
            lambda: load.load_transcription(around.backend, found),
            on_step=wanted.on_progress,
        )
        return await load_transcription(
            wanted.name,
            listener,
            found,
            settings,
            device,
            memory=around.memory,
            recording_bytes=wanted.footprint.cache(0),
            on_short=wanted.on_short,
            meters=wanted.transcription_meters,
        )
    if wanted.kind is Kind.TTS:
        speaker = await device.run(
            "load", lambda: load.load_speech(around.backend, found), on_step=wanted.on_progress
        )
        return await load_speech(
            wanted.name, speaker, wanted.own, settings, device, wanted.speech_meters
        )
    if wanted.kind is Kind.IMAGE:
        return await _load_image(wanted, around)
    raise LoadError(f"{wanted.name} is of type {wanted.kind}, which is not served")


async def _load_text(wanted: Wanted, around: Surroundings) -> TextModel:
    settings, own, found = around.settings, wanted.own, wanted.found
    limits = settings.engine
    tokenizer = await asyncio.to_thread(_tokenizer, found.folder, own.chat_template)
    pacer = PrefillPacer(limits.slice_ms / 1000, limits.prefill_chunk)
    backend = await around.device.run(
        "load",
        lambda: load.load_text(around.backend, found, pacer=pacer),
        on_step=wanted.on_progress,
    )
    context_length = context_of(own, found)
    engine = TextEngine(
        around.device,
        backend,
        tokenizer.decoder,
        end_ids=frozenset(found.eos_ids) or tokenizer.end_ids,
        context_length=context_length,
        max_batch=limits.max_batch,
        max_queue=settings.api.max_queue,
        memory=around.memory,
        cache_bytes=wanted.footprint.cache,
        on_short=wanted.on_short,
        prefix_cache_bytes=_prefix_cache_bytes(settings),
        prefix_cache_arrays=around.buffers,
        meters=wanted.text_meters,
    )
    defaults = found.defaults
    if own.default_temperature is not None:
        defaults = replace(defaults, temperature=own.default_temperature)
    model = TextModel(
        name=wanted.name,
        engine=engine,
        tokenizer=tokenizer,
        context_length=context_length,
        facts=backend.facts,
        defaults=defaults,
    )
    return model if wanted.adapter is None else await _adapted(model, wanted.adapter)


async def _load_image(wanted: Wanted, around: Surroundings) -> ImageModel:
    settings, own, found = around.settings, wanted.own, wanted.found
    options = options_of(wanted.name, own, around.backend, settings.engine, staged=wanted.staged)
    await asyncio.to_thread(load.import_image, around.backend, found)
    backend = await around.device.run(
        "load",
        lambda: load.load_image(around.backend, found, options),
        on_step=wanted.on_progress,
    )
    model = await load_image(
        wanted.name,
        backend,
        own,
        settings,
        around.device,
        memory=around.memory,
        on_short=wanted.on_short,
        meters=wanted.image_meters,
    )
    return model if wanted.adapter is None else await _adapted(model, wanted.adapter)


async def _adapted(model: A, path: Path) -> A:
    """The model with the adapter that its configuration names."""
    try:
        adapter = await asyncio.to_thread(adapter_for, model, path)
        await model.engine.add_adapter(model.name, adapter)
    except InvalidRequest as error:
        await model.close()
        raise LoadError(f"{model.name}: adapter: {error.message}") from error
    return replace(model, adapter=model.name)


def adapter_for(model: TextModel | ImageModel, path: Path, scale: float | None = None) -> Adapter:
    """Reads a LoRA adapter in the formats that are published for models of this kind. Raises
    InvalidRequest."""
    if isinstance(model, ImageModel):
        return read_image_adapter(path, scale=scale)
    return read_adapter(path, scale=scale)


def _tokenizer(folder: Path, chat_template: str | None) -> TextTokenizer:
    """A chat template is given as itself or as the name of its file."""
    if chat_template is not None and "{" not in chat_template:
        chat_template = Path(chat_template).expanduser().read_text(encoding="utf-8")
    return TextTokenizer(folder, chat_template)


def _prefix_cache_bytes(settings: Settings) -> int:
    """What is configured, else an eighth of the machine's memory, at most 4 GB."""
    wanted = settings.engine.prefix_cache_bytes
    if wanted is not None:
        return int(wanted)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(memory // 8, 4_000_000_000)
