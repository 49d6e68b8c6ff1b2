"""Tokens a second, time to the first token and between tokens, by the number of streams."""

from __future__ import annotations

from mlxsrv.bench.metrics import Sample, load_sample
from mlxsrv.bench.scenarios.base import Generates, Round, Scenario

AT_LEAST = 4
"""Requests a figure rests on: fewer streams take turns to make so many."""


def case_of(streams: int) -> str:
    return "1 stream" if streams == 1 else f"{streams} streams"


async def measure(subject: Generates, turn: Round) -> Sample:
    speaker = turn.speaker()
    work = turn.settings.work(turn.checkpoint.name)
    sample: Sample = {}
    for streams in turn.settings.concurrency:
        runs = []
        for _ in range(max(1, AT_LEAST // streams)):
            # No prompt twice, or a prefix cache would answer for the engine.
            chats = [[speaker.user(turn.settings.prompt_tokens)] for _ in range(streams)]
            runs.append(await subject.generate(chats, work))
        sample |= load_sample(case_of(streams), runs)
    return sample


SCENARIO = Scenario(
    "throughput",
    "streams at once, against the library alone",
    ("tiny", "small"),
    running=measure,
    library=measure,
)
