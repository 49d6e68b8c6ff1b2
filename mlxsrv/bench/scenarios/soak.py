"""Thousands of mixed requests, some cut off and some wrong; does anything stay behind?"""

from __future__ import annotations

import asyncio
import random
from collections import Counter

from mlxsrv.bench import client
from mlxsrv.bench.metrics import ERRORS, Metric, Sample
from mlxsrv.bench.processes import memory_mb, seconds_until_idle
from mlxsrv.bench.scenarios.base import Round, Scenario
from mlxsrv.bench.scrape import scrape
from mlxsrv.bench.subjects import PATHS, Api, Subject, Work
from mlxsrv.bench.words import Message, Speaker

AT_ONCE = 16
BEFORE = 500
"""Requests after which memory is taken as settled."""
LEAVING = 0.2
WRONG = 0.05
SERVER_ERROR = 500
PATIENCE = 30.0
APIS: tuple[Api, ...] = ("chat", "completions")
SAMPLINGS = (
    {"temperature": 0},
    {"temperature": 1.0, "seed": 7},
    {"temperature": 0.8, "top_p": 0.9, "frequency_penalty": 0.5},
)
MISTAKES = ({"temperature": 99}, {"max_tokens": -1}, {"stop": 5}, {"seed": "x"}, {"n": 0})
PROBE = Work(48)


class Soak:
    """Draws requests and counts what went wrong."""

    def __init__(self, subject: Subject, speaker: Speaker, seed: int) -> None:
        self._subject = subject
        self._speaker = speaker
        self._random = random.Random(seed)
        self.outcomes: Counter[str] = Counter()

    async def run(self, requests: int) -> None:
        """So many requests, `AT_ONCE` of them at any time."""
        left = iter(range(requests))

        async def worker() -> None:
            for _ in left:
                self.outcomes[await self._one()] += 1

        await asyncio.gather(*(worker() for _ in range(AT_ONCE)))

    async def _one(self) -> str:
        draw = self._random
        kind = draw.random()
        message = self._speaker.user(draw.randint(1, 64))
        work = Work(
            draw.randint(1, 48), draw.random() < 0.7, draw.choice(APIS), draw.choice(SAMPLINGS)
        )
        if kind < WRONG:
            return await self._mistaken(message, work)
        try:
            request = await self._subject.start([message], work)
        except OSError:
            return "error"
        if kind < WRONG + LEAVING:
            await asyncio.sleep(draw.uniform(0, 0.1))
            request.leave()
        answer = await request.answer()
        return "good" if answer.error is None else "error"

    async def _mistaken(self, message: Message, work: Work) -> str:
        body = work.body([message]) | self._random.choice(MISTAKES)
        answer = await client.ask(self._subject.endpoint, PATHS[work.api], body)
        # What is wrong with a request has to be said, and not by breaking down.
        return "good" if 0 < answer.status < SERVER_ERROR else "error"


async def measure(subject: Subject, turn: Round) -> Sample:
    speaker = turn.speaker()
    question = [speaker.user(32)]
    reference = await subject.ask(question, PROBE)
    soak = Soak(subject, speaker, turn.seed)
    first = min(BEFORE, turn.settings.requests // 2)
    await soak.run(first)
    before = await _settled_memory(subject)
    await soak.run(turn.settings.requests - first)
    after = await _settled_memory(subject)
    again = await subject.ask(question, PROBE)
    sample = {
        Metric("", "requests", better="neither"): float(turn.settings.requests),
        Metric("", ERRORS): float(soak.outcomes["error"]),
        Metric("", "the same question answered as before", better="more"): float(
            again.error is None and again.text == reference.text
        ),
    }
    if before is not None and after is not None:
        sample[Metric(f"after {first}", "memory", "MB")] = before
        sample[Metric("at the end", "memory", "MB")] = after
        sample[Metric("", "memory at the end / before")] = after / before
    stuck = await _running_sequences(subject)
    if stuck is not None:
        sample[Metric("", "stuck sequences")] = stuck
    return sample


async def _settled_memory(subject: Subject) -> float | None:
    if subject.pid is None:
        return None
    await seconds_until_idle(subject.pid, PATIENCE)
    return memory_mb(subject.pid)


async def _running_sequences(subject: Subject) -> float | None:
    """What our own servers say of themselves; None for others."""
    found = await scrape(subject.endpoint) if subject.ours else None
    return found["mlxsrv_running_sequences"] if found else None


SCENARIO = Scenario(
    "soak",
    "mixed requests, a fifth of them cut off, some wrong: what stays behind",
    ("tiny",),
    running=measure,
    once=True,
    ours_only=True,
)
