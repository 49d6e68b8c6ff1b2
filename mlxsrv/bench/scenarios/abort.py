"""How long a server goes on computing for a client that has gone."""

from __future__ import annotations

import asyncio

from mlxsrv.bench.metrics import Metric, Sample
from mlxsrv.bench.processes import seconds_until_idle
from mlxsrv.bench.scenarios.base import Round, Scenario
from mlxsrv.bench.subjects import Subject, Work

RUNNING_SECONDS = 1.0
PATIENCE = 60.0
ANSWER_TOKENS = 2000


async def measure(subject: Subject, turn: Round) -> Sample:
    if subject.pid is None:
        return {}
    sample = {}
    speaker = turn.speaker()
    for case, stream in (("streamed", True), ("not streamed", False)):
        request = await subject.start([speaker.user(32)], Work(ANSWER_TOKENS, stream))
        await asyncio.sleep(RUNNING_SECONDS)
        request.leave()
        idle = await seconds_until_idle(subject.pid, PATIENCE)
        sample[Metric(case, "busy after the client left", "s")] = idle
    return sample


SCENARIO = Scenario(
    "abort",
    "the client leaves in the middle of a long answer; busy at most 60 s",
    ("small",),
    running=measure,
)
