"""Streams over several adapters in one batch, against as many on their base alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path

import orjson

from mlxsrv.bench import adapters, client
from mlxsrv.bench.checkpoints import SHAPES, Checkpoint
from mlxsrv.bench.keepalive import post
from mlxsrv.bench.metrics import Metric, Sample, load_sample
from mlxsrv.bench.scenarios.base import Round, Scenario
from mlxsrv.bench.settings import Settings
from mlxsrv.bench.subjects import Subject
from mlxsrv.core.errors import ConfigError

STREAMS = 16
ADAPTERS = 4
BASE = "base"
ADAPTED = f"{ADAPTERS} adapters"


def _folders(checkpoint: Checkpoint, settings: Settings) -> list[Path]:
    shape = SHAPES.get(checkpoint.name)
    if shape is None:
        raise ConfigError(f"no adapters can be made for {checkpoint.name}: its shape is not known")
    return adapters.ensure(checkpoint.name, shape, ADAPTERS, settings.cache)


def flags(checkpoint: Checkpoint, settings: Settings) -> list[str]:
    return ["--allowed-folders", str(_folders(checkpoint, settings)[0].parent)]


async def measure(subject: Subject, turn: Round) -> Sample:
    """Both loads in one round, in turns, so that what disturbs one disturbs the other."""
    names = await _loaded(subject, _folders(turn.checkpoint, turn.settings))
    loads = {BASE: [subject.endpoint.model], ADAPTED: names}
    order = list(loads) if turn.seed % 2 else list(reversed(loads))
    samples = {case: await _load(subject, turn, loads[case], case) for case in order}
    paces = [samples[case].get(Metric(case, "throughput", "tok/s", "more")) for case in loads]
    sample = samples[BASE] | samples[ADAPTED]
    if paces[0] and paces[1]:
        sample[Metric(ADAPTED, "throughput / base's", "", "more")] = paces[1] / paces[0]
    return sample


async def _load(subject: Subject, turn: Round, models: Sequence[str], case: str) -> Sample:
    speaker, work = turn.speaker(), turn.settings.work(turn.checkpoint.name)
    subjects = [
        replace(subject, endpoint=replace(subject.endpoint, model=model))
        for model in islice(cycle(models), STREAMS)
    ]
    chats = [[speaker.user(turn.settings.prompt_tokens)] for _ in subjects]
    asked = (one.ask(chat, work) for one, chat in zip(subjects, chats, strict=True))
    return load_sample(case, [await asyncio.gather(*asked)])


async def _loaded(subject: Subject, folders: Sequence[Path]) -> list[str]:
    """The adapters' names, loaded by API where they are not yet. Raises Refused, OSError."""
    listed = orjson.loads((await client.get(subject.endpoint, "/v1/lora")).content)
    there = {adapter["id"] for adapter in listed["data"]}
    for folder in folders:
        if folder.name not in there:
            body = {"lora_name": folder.name, "lora_path": str(folder)}
            await post(subject.endpoint, "/v1/lora/load", body)
    return [folder.name for folder in folders]


SCENARIO = Scenario(
    "adapters",
    f"{STREAMS} streams over {ADAPTERS} adapters of rank {adapters.RANK}, against the base alone",
    ("small",),
    running=measure,
    flags=flags,
    ours_only=True,
)
