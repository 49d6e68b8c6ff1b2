"""A thousand sentences of mixed length, in one request and one by one from many clients."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

import orjson

from mlxsrv.bench.client import Endpoint
from mlxsrv.bench.keepalive import Connection, Refused, connect
from mlxsrv.bench.metrics import ERRORS, Metric, Sample
from mlxsrv.bench.scenarios.base import Round, Scenario
from mlxsrv.bench.scrape import Scrape, scrape
from mlxsrv.bench.sentences import Sentences
from mlxsrv.bench.subjects import Subject

PATH = "/v1/embeddings"
SHORTEST, LONGEST = 3, 120
"""Words."""
CLIENTS = 32
PERCENT = 100
BULK = "one request"
EACH = f"{CLIENTS} clients"

Asks = Callable[[Endpoint, list[str]], Awaitable[int]]
"""Asks for the vectors of all texts, and says how many came."""


def texts(turn: Round) -> list[str]:
    """Others every round, so that no cache answers, but as long."""
    lengths = random.Random(0)
    speaker, number = turn.speaker(), turn.settings.sentences
    return [speaker.text(lengths.randint(SHORTEST, LONGEST)) for _ in range(number)]


async def alone(library: Sentences, turn: Round) -> Sample:
    """Figured in for both cases: in process there are no requests."""
    given = texts(turn)
    pace = len(given) / await library.seconds(given)
    return {_pace(BULK): pace, _pace(EACH): pace}


async def measure(subject: Subject, turn: Round) -> Sample:
    given = texts(turn)
    bulk = await _observed(subject, BULK, given, _in_bulk)
    # The same sentences again: what a server keeps of them would show as a pace out of reach.
    each = await _observed(subject, EACH, given, _one_by_one)
    return bulk | each


async def _observed(subject: Subject, case: str, given: list[str], work: Asks) -> Sample:
    before = await scrape(subject.endpoint) if subject.ours else None
    began = time.perf_counter()
    good = await work(subject.endpoint, given)
    seconds = time.perf_counter() - began
    sample = {Metric(case, ERRORS): float(len(given) - good)}
    if good == len(given):
        sample[_pace(case)] = len(given) / seconds
    after = await scrape(subject.endpoint) if subject.ours else None
    if before is not None and after is not None:
        sample[Metric(case, "padding", "%")] = PERCENT * _padding(before, after)
    return sample


def _pace(case: str) -> Metric:
    return Metric(case, "pace", "sentences/s", "more")


def _padding(before: Scrape, after: Scrape) -> float:
    """The share of the batches' places that held no token."""
    empty = after.since(before, "mlxsrv_padding_tokens_total")
    filled = after.since(before, "mlxsrv_prompt_tokens_total")
    return empty / (empty + filled) if empty + filled else 0.0


async def _in_bulk(endpoint: Endpoint, given: list[str]) -> int:
    async with connect(endpoint) as connection:
        return await _vectors(connection, given)


async def _one_by_one(endpoint: Endpoint, given: list[str]) -> int:
    left = iter(given)

    async def client() -> int:
        async with connect(endpoint) as connection:
            return sum([await _vectors(connection, [text]) for text in left])

    return sum(await asyncio.gather(*(client() for _ in range(CLIENTS))))


async def _vectors(connection: Connection, given: list[str]) -> int:
    model = connection.endpoint.model
    body = {"model": model, "input": given, "encoding_format": "base64"}
    try:
        answer = await connection.post(PATH, body)
    except Refused:
        return 0
    return len(orjson.loads(answer)["data"])


SCENARIO = Scenario(
    "embeddings",
    f"sentences of {SHORTEST} to {LONGEST} words, in one request and from {CLIENTS} clients",
    ("minilm",),
    running=measure,
    sentences=alone,
    purpose="embedding",
)
