"""Two models that don't fit into memory together, asked in turn by several clients."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import count, pairwise

from mlxsrv.backends.checkpoint import read
from mlxsrv.backends.footprint import Residence, estimate
from mlxsrv.bench import checkpoints
from mlxsrv.bench.answer import Answer
from mlxsrv.bench.checkpoints import Checkpoint
from mlxsrv.bench.keepalive import post
from mlxsrv.bench.metrics import ERRORS, Metric, Sample
from mlxsrv.bench.processes import MEGA, memory_mb
from mlxsrv.bench.scenarios.base import Round, Scenario
from mlxsrv.bench.scrape import scrape
from mlxsrv.bench.settings import Settings
from mlxsrv.bench.stats import percentile
from mlxsrv.bench.subjects import Subject, Work

CLIENTS = 8
WEIGHTS = 1.5
"""Times the weights of one that fit, beside what one computes: two never do."""
LEAST_TOKENS = 512
"""Without room for as many the server takes no model."""
UNAVAILABLE = 503
LOOK_SECONDS = 0.1
QUESTION = Work(16, stream=False)
PROMPT = 32


@dataclass(slots=True)
class Peaks:
    """The most that was seen of each."""

    held: float = field(default=0.0)
    budget: float = field(default=0.0)
    process: float = field(default=0.0)

    async def watch(self, subject: Subject) -> None:
        """Looks until it is cancelled. Bytes, and megabytes of the process."""
        while True:
            found = await scrape(subject.endpoint)
            if found is not None:
                self.held = max(self.held, found["mlxsrv_memory_bytes"])
                self.budget = max(self.budget, found["mlxsrv_memory_budget_bytes"])
            if subject.pid is not None:
                self.process = max(self.process, memory_mb(subject.pid))
            await asyncio.sleep(LOOK_SECONDS)


def flags(checkpoint: Checkpoint, settings: Settings) -> list[str]:
    folder = checkpoints.sibling(checkpoint.name, settings.cache).folder
    return ["--budget-bytes", str(_budget(checkpoint)), "--allowed-folders", str(folder.parent)]


def _budget(checkpoint: Checkpoint) -> int:
    need = estimate(read(checkpoint.folder), Residence(checkpoint.weight_bytes, 4), caches=True)
    return int(WEIGHTS * need.weights) + need.activations + need.cache(LEAST_TOKENS)


async def measure(subject: Subject, turn: Round) -> Sample:
    other = checkpoints.sibling(turn.checkpoint.name, turn.settings.cache)
    wanted = {"model": str(other.folder), "name": other.name}
    await post(subject.endpoint, "/v1/models/load", wanted)
    both = [
        replace(subject, endpoint=replace(subject.endpoint, model=name))
        for name in (subject.endpoint.model, other.name)
    ]
    before, peaks = await scrape(subject.endpoint), Peaks()
    watching = asyncio.create_task(peaks.watch(subject))
    try:
        answers = await _asked(both, turn)
    finally:
        watching.cancel()
    after = await scrape(subject.endpoint)
    sample = figures(answers)
    if before is None or after is None:
        return sample
    loads = after.since(before, "mlxsrv_model_loads_total")
    turns = max(1, switches(answers))
    return sample | {
        Metric("", "loads", better="neither"): loads,
        Metric("", "loads per switch"): loads / turns,
        Metric("", "memory held, highest", "MB"): peaks.held / MEGA,
        Metric("", "memory held, highest / budget"): peaks.held / max(1.0, peaks.budget),
        Metric("", "memory of the process, highest", "MB"): peaks.process,
    }


Named = tuple[int, Answer]
"""Which model answered."""


async def _asked(both: Sequence[Subject], turn: Round) -> list[Named]:
    """All that came until the time was up."""
    speaker = turn.speaker()
    end = time.perf_counter() + turn.settings.seconds
    answers: list[Named] = []

    async def client(number: int) -> None:
        for asked in count(number):
            if time.perf_counter() >= end:
                return
            which = asked % len(both)
            answer = await both[which].ask([speaker.user(PROMPT)], QUESTION)
            answers.append((which, answer))

    await asyncio.gather(*(client(number) for number in range(CLIENTS)))
    return answers


def figures(answers: Sequence[Named]) -> Sample:
    """How many answers there were, and how long they took."""
    good = [answer for _, answer in answers if answer.error is None]
    busy = [answer for _, answer in answers if answer.status == UNAVAILABLE]
    sample = {
        Metric("", ERRORS): float(len(answers) - len(good) - len(busy)),
        Metric("", "declared 503s"): float(len(busy)),
        Metric("", "answers", better="more"): float(len(good)),
        Metric("", "switches", better="neither"): float(switches(answers)),
    }
    if good:
        times = [answer.ended - answer.sent for answer in good]
        sample[Metric("", "answer, median", "s")] = percentile(times, 0.5)
        sample[Metric("", "answer, longest", "s")] = max(times)
    return sample


def switches(answers: Sequence[Named]) -> int:
    """How often an answer came from another model than the one before it."""
    good = sorted((answer.ended, which) for which, answer in answers if answer.error is None)
    return sum(one != next_ for (_, one), (_, next_) in pairwise(good))


SCENARIO = Scenario(
    "turns",
    f"two models, of which memory holds one, asked in turn by {CLIENTS} clients",
    ("small",),
    running=measure,
    flags=flags,
    once=True,
    ours_only=True,
)
