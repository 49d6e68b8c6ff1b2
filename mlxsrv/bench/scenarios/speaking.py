"""How soon a long text is heard, and how much slower a chat streams beside it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from itertools import count

from mlxsrv.bench import client
from mlxsrv.bench.http1 import read_answer
from mlxsrv.bench.keepalive import post
from mlxsrv.bench.metrics import ERRORS, MILLI, Metric, Sample
from mlxsrv.bench.scenarios.base import Round, Scenario
from mlxsrv.bench.scenarios.interference import SLICE_SECONDS
from mlxsrv.bench.scenarios.listening import ALLOWED, ALONE, after, gaps
from mlxsrv.bench.stats import percentile
from mlxsrv.bench.subjects import Subject
from mlxsrv.bench.words import Speaker

PATH = "/v1/audio/speech"
VOICE = "espeak"
SENTENCES, WORDS = 42, 12
"""Five hundred words together."""
ASKED = 15
"""Times that a text is asked for, in turn with the other."""
OK = 200


async def measure(subject: Subject, turn: Round) -> Sample:
    await post(subject.endpoint, "/v1/models/load", {"model": VOICE})
    sentences = [_sentence(turn.speaker()) for _ in range(SENTENCES)]
    whole = " ".join(sentences)
    one: list[float] = []
    long: list[float] = []
    for _ in range(ASKED):
        one.append(await _first(subject, sentences[0]))
        long.append(await _first(subject, whole))
    alone = await gaps(subject, turn, after(ALONE))
    speaking = asyncio.create_task(_go_on(subject, whole))
    beside = await gaps(subject, turn, after(ALONE))
    speaking.cancel()
    with suppress(asyncio.CancelledError):
        await speaking
    sentence, text = percentile(one, 0.5), percentile(long, 0.5)
    usual, disturbed = percentile(alone, 0.95), percentile(beside, 0.95)
    return {
        Metric("", ERRORS): 0.0,
        Metric("one sentence", "first sound", "ms"): MILLI * sentence,
        Metric("500 words", "first sound", "ms"): MILLI * text,
        Metric("500 words", "first sound / that of one sentence"): text / sentence,
        Metric("alone", "gap, p95", "ms"): MILLI * usual,
        Metric("beside", "gap, p95", "ms"): MILLI * disturbed,
        Metric("beside", "gap, longest", "ms"): MILLI * max(beside),
        Metric("beside", "gap, p95 / (2.5 alone + 50 ms)"): disturbed
        / (ALLOWED * usual + SLICE_SECONDS),
    }


def _sentence(speaker: Speaker) -> str:
    return speaker.text(WORDS).capitalize() + "."


async def _first(subject: Subject, text: str) -> float:
    """Seconds until the first sound. Raises ValueError where there is none."""
    exchange = await client.start(subject.endpoint, PATH, {"model": VOICE, "input": text})
    for wanted in count(1):
        await exchange.reached(wanted)
        answer = read_answer(exchange.pieces)
        if answer.body and answer.status == OK:
            break
        if len(exchange.pieces) < wanted:
            raise ValueError(f"HTTP {answer.status}: {answer.content[:300]!r}")
    exchange.leave()
    return answer.body[0][0] - exchange.sent


async def _go_on(subject: Subject, text: str) -> None:
    """Has a text spoken over and over."""
    while True:
        body = {"model": VOICE, "input": text}
        exchange = await client.start(subject.endpoint, PATH, body)
        try:
            await exchange.finish()
        finally:
            exchange.leave()


SCENARIO = Scenario(
    "speech",
    "500 words are spoken, alone and while a chat streams",
    ("demo",),
    running=measure,
    ours_only=True,
)
