"""How much slower a chat streams while minutes of sound become text in the same process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count

from mlxsrv.bench import whispers
from mlxsrv.bench.checkpoints import Checkpoint
from mlxsrv.bench.keepalive import post
from mlxsrv.bench.metrics import ERRORS, MILLI, Metric, Sample
from mlxsrv.bench.scenarios.base import Round, Scenario
from mlxsrv.bench.scenarios.interference import SLICE_SECONDS
from mlxsrv.bench.scenarios.transcription import FIELDS, MINUTE, PATH
from mlxsrv.bench.settings import Settings
from mlxsrv.bench.stats import percentile
from mlxsrv.bench.subjects import Subject, Work
from mlxsrv.bench.uploads import upload

LISTENER = "whisper-mini"
ALONE = 10
"""Streams by which the pace is known."""
ALLOWED = 2.5
"""Times its own gap that a stream may wait, and a slice."""
STREAM = Work(200, sampling={"temperature": 0, "ignore_eos": True})


def flags(_: Checkpoint, settings: Settings) -> list[str]:
    listener = whispers.ensure(LISTENER, settings.cache)
    return ["--allowed-folders", str(listener.folder.parent)]


async def measure(subject: Subject, turn: Round) -> Sample:
    listener = whispers.ensure(LISTENER, turn.settings.cache)
    wanted = {"model": str(listener.folder), "name": LISTENER}
    await post(subject.endpoint, "/v1/models/load", wanted)
    alone = await gaps(subject, turn, after(ALONE))
    sound = whispers.recording(turn.settings.minutes * MINUTE, turn.settings.cache)
    fields = {**FIELDS, "model": LISTENER}
    hearing = asyncio.create_task(upload(subject.endpoint, PATH, fields, sound))
    beside = await gaps(subject, turn, hearing.done)
    await hearing
    usual, disturbed = (percentile(gaps, 0.95) for gaps in (alone, beside))
    return {
        Metric("", ERRORS): 0.0,
        Metric("alone", "gap, p95", "ms"): MILLI * usual,
        Metric("beside", "gap, p95", "ms"): MILLI * disturbed,
        Metric("beside", "gap, longest", "ms"): MILLI * max(beside),
        Metric("beside", "gap, p95 / (2.5 alone + 50 ms)"): disturbed
        / (ALLOWED * usual + SLICE_SECONDS),
    }


def after(streams: int) -> Callable[[], bool]:
    """What ends `gaps` once so many streams have been asked for."""
    asked = count()
    return lambda: next(asked) >= streams


async def gaps(subject: Subject, turn: Round, ended: Callable[[], bool]) -> list[float]:
    """Of streams one after the other. Raises ValueError where one fails."""
    speaker = turn.speaker()
    gaps: list[float] = []
    while not ended():
        answer = await subject.ask([speaker.user(8)], STREAM)
        if answer.error is not None:
            raise ValueError(f"a stream failed: {answer.error}")
        gaps += answer.gaps
    return gaps


SCENARIO = Scenario(
    "transcription-interference",
    "a chat streams while sound becomes text",
    ("demo",),
    running=measure,
    flags=flags,
    ours_only=True,
)
