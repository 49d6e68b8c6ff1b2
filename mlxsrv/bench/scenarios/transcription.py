"""Minutes of sound: how fast they become text, against the libraries alone, and in what memory.

Greedy, without a second try and without earlier text before a window, as all can be told to.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from pathlib import Path

from mlxsrv.bench import whispers
from mlxsrv.bench.metrics import ERRORS, Metric, Sample
from mlxsrv.bench.processes import memory_mb
from mlxsrv.bench.recordings import Recordings
from mlxsrv.bench.scenarios.base import Round, Scenario
from mlxsrv.bench.subjects import Subject
from mlxsrv.bench.uploads import upload

PATH = "/inference"
"""whisper.cpp's form has a field for each of these."""
FIELDS = {
    "language": "en",
    "temperature": "0",
    "temperature_inc": "0",
    "max_context": "0",
    "response_format": "text",
}
MINUTE = 60
LENGTHS = (1, 5, 10)
LOOK_SECONDS = 0.05


async def alone(library: Recordings, turn: Round) -> Sample:
    minutes = turn.settings.minutes
    seconds, text = await library.transcribe(_sound(turn, minutes))
    return _figures(minutes, seconds, text)


async def measure(subject: Subject, turn: Round) -> Sample:
    minutes = turn.settings.minutes
    sound = _sound(turn, minutes)
    began = time.perf_counter()
    text = await upload(subject.endpoint, PATH, FIELDS, sound)
    seconds = time.perf_counter() - began
    return {Metric("", ERRORS): 0.0} | _figures(minutes, seconds, text.decode())


def _sound(turn: Round, minutes: int) -> Path:
    return whispers.recording(minutes * MINUTE, turn.settings.cache)


def _figures(minutes: int, seconds: float, text: str) -> Sample:
    """The checksum shows whose text is the same."""
    checksum = zlib.crc32(" ".join(text.split()).encode())
    return {
        Metric("", "pace", "x real time", "more"): minutes * MINUTE / seconds,
        Metric("", "checksum of the text", better="neither"): float(checksum),
    }


async def measure_memory(subject: Subject, turn: Round) -> Sample:
    """The longest last, so that what a shorter one left behind does not hide what it takes."""
    assert subject.pid is not None
    loaded = memory_mb(subject.pid)
    sample: Sample = {Metric("", "memory with the model", "MB"): loaded}
    for minutes in LENGTHS:
        began, watch = time.perf_counter(), asyncio.create_task(_most(subject.pid))
        await upload(subject.endpoint, PATH, FIELDS, _sound(turn, minutes))
        seconds = time.perf_counter() - began
        watch.cancel()
        case = f"{minutes} min"
        sample[Metric(case, "memory above that, most", "MB")] = await watch - loaded
        sample[Metric(case, "seconds for each minute", "s")] = seconds / minutes
    return sample


async def _most(pid: int) -> float:
    """The most memory until it is cancelled."""
    most = 0.0
    try:
        while True:
            most = max(most, memory_mb(pid))
            await asyncio.sleep(LOOK_SECONDS)
    except asyncio.CancelledError:
        return most


SPEED = Scenario(
    "transcription",
    "minutes of sound to text, against the libraries alone",
    ("whisper",),
    running=measure,
    recordings=alone,
    ours_only=True,
)
MEMORY = Scenario(
    "transcription-memory",
    "how much memory sound takes that becomes text, by its length",
    ("whisper",),
    running=measure_memory,
    once=True,
    ours_only=True,
)
