"""Many connections that say nothing, and many streams beside them."""

from __future__ import annotations

import asyncio

from mlxsrv.bench.metrics import Metric, Sample, load_sample
from mlxsrv.bench.scenarios.base import Round, Scenario
from mlxsrv.bench.subjects import Subject, Work

IDLE = 200
STREAMS = 50
STREAM = Work(64)


async def measure(subject: Subject, turn: Round) -> Sample:
    speaker = turn.speaker()
    where = subject.endpoint
    opened = await asyncio.gather(
        *(asyncio.open_connection(where.host, where.port) for _ in range(IDLE)),
        return_exceptions=True,
    )
    writers = [pair[1] for pair in opened if not isinstance(pair, BaseException)]
    try:
        answers = await subject.generate([[speaker.user(32)] for _ in range(STREAMS)], STREAM)
    finally:
        for writer in writers:
            writer.close()
    refused = Metric(f"{IDLE} idle", "refused")
    return {refused: float(IDLE - len(writers))} | load_sample(f"{STREAMS} streams", [answers])


SCENARIO = Scenario(
    "connections",
    f"{IDLE} idle connections and {STREAMS} streams at once",
    ("tiny",),
    running=measure,
)
