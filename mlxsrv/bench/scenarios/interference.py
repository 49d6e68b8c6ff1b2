"""How long running streams stand still while a long prompt is taken in."""

from __future__ import annotations

from mlxsrv.bench.answer import Answer
from mlxsrv.bench.metrics import ERRORS, MILLI, Metric, Sample
from mlxsrv.bench.scenarios.base import Round, Scenario
from mlxsrv.bench.stats import percentile
from mlxsrv.bench.subjects import Subject, Work

STREAMS = 4
SETTLED = 40
"""Pieces of each stream after which its pace is known."""
LONG_PROMPT = 2000
STREAM = Work(1500)
QUESTION = Work(1)
SLICE_SECONDS = 0.05


def standstill(answers: list[Answer], begin: float, end: float) -> tuple[float, float]:
    """(usual gap before `begin`, longest gap that overlaps `begin` to `end`), in seconds.

    Raises ValueError where the streams did not run at both times.
    """
    usual, disturbed = [], []
    for answer in answers:
        for after, gap in zip(answer.arrivals[1:], answer.gaps, strict=True):
            if after <= begin:
                usual.append(gap)
            elif after - gap <= end:
                disturbed.append(gap)
    return percentile(usual, 0.5), percentile(disturbed, 1.0)


async def measure(subject: Subject, turn: Round) -> Sample:
    speaker = turn.speaker()
    streams = [await subject.start([speaker.user(32)], STREAM) for _ in range(STREAMS)]
    for stream in streams:
        await stream.reached(SETTLED)
    asked = await subject.ask([speaker.user(LONG_PROMPT)], QUESTION)
    for stream in streams:
        await stream.reached(len(stream.pieces) + 2)
        stream.leave()
    answers = [await stream.answer() for stream in streams]
    errors = [answer for answer in (asked, *answers) if answer.error is not None]
    sample = {Metric("", ERRORS): float(len(errors))}
    if errors:
        return sample
    usual, longest = standstill(answers, asked.sent, asked.ended)
    return sample | {
        Metric("", "usual gap", "ms"): MILLI * usual,
        Metric("", "longest gap", "ms"): MILLI * longest,
        Metric("", "longest gap / (2 usual + 50 ms)"): longest / (2 * usual + SLICE_SECONDS),
        Metric("", "the long prompt's answer", "ms"): MILLI * (asked.ended - asked.sent),
    }


SCENARIO = Scenario(
    "prefill-interference",
    f"a {LONG_PROMPT}-token prompt arrives while {STREAMS} streams run",
    ("small",),
    running=measure,
)
