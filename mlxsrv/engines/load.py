"""From a checkpoint to a running model: backend, tokenizer and engine."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path

from mlxsrv.backends import load
from mlxsrv.backends.checkpoint import Checkpoint
from mlxsrv.backends.device import Device
from mlxsrv.backends.pacing import PrefillPacer
from mlxsrv.backends.select import Choice
from mlxsrv.config.settings import ModelSettings, Settings
from mlxsrv.engines.model import TextModel
from mlxsrv.engines.text import TextEngine
from mlxsrv.engines.tokenizer import TextTokenizer

DEFAULT_CONTEXT = 4096


async def load_text(
    name: str,
    found: Checkpoint,
    own: ModelSettings,
    *,
    settings: Settings,
    device: Device,
    choice: Choice,
) -> TextModel:
    """Loads a text model: its weights on the device thread, its tokenizer on another.

    `own` is what the configuration says of this model. Raises LoadError.
    """
    limits = settings.engine
    pacer = PrefillPacer(limits.slice_ms / 1000, limits.prefill_chunk)
    backend = await device.call(
        lambda: load.load_text(choice.name, found, pacer=pacer),
        kind="load",
    )
    tokenizer = await asyncio.to_thread(_tokenizer, found.folder, own.chat_template)
    context_length = context_of(own, found)
    engine = TextEngine(
        device,
        backend,
        tokenizer.decoder,
        end_ids=frozenset(found.eos_ids) or tokenizer.end_ids,
        context_length=context_length,
        max_batch=limits.max_batch,
        max_queue=settings.api.max_queue,
        prefix_cache_bytes=_prefix_cache_bytes(settings),
    )
    defaults = found.defaults
    if own.default_temperature is not None:
        defaults = replace(defaults, temperature=own.default_temperature)
    return TextModel(
        name=name,
        engine=engine,
        tokenizer=tokenizer,
        context_length=context_length,
        facts=backend.facts,
        defaults=defaults,
    )


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


def context_of(own: ModelSettings, found: Checkpoint) -> int:
    """The configured context in tokens, never more than the model was trained for."""
    trained = found.context_length
    wanted = own.context_length or trained or DEFAULT_CONTEXT
    return min(wanted, trained or wanted)
