"""What is measured, and how answers add up to it; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mlxsrv.bench.answer import Answer
from mlxsrv.bench.stats import percentile

MILLI = 1000.0
ERRORS = "errors"
"""Name of the metric that counts what went wrong; with no other figures beside it, all did."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure of a scenario. `case` says under which load; `better` which way is good."""

    case: str
    name: str
    unit: str = ""
    better: Literal["more", "less", "neither"] = "less"

    @property
    def label(self) -> str:
        return " ".join(part for part in (self.case, self.name) if part)


Sample = dict[Metric, float]
"""One round's figures of one target."""


def load_sample(case: str, runs: Sequence[Sequence[Answer]]) -> Sample:
    """Figures of some requests that ran at once, or of several such runs after one another.

    Tokens a second count from the first request to the last token, over everybody.
    """
    answers = [answer for run in runs for answer in run]
    good = [answer for answer in answers if answer.error is None and answer.arrivals]
    sample = {Metric(case, ERRORS): float(len(answers) - len(good))}
    if not good:
        return sample
    seconds = sum(max(a.ended for a in run) - min(a.sent for a in run) for run in runs)
    tokens = sum(answer.tokens for answer in good)
    sample[Metric(case, "throughput", "tok/s", "more")] = tokens / seconds
    sample[Metric(case, "first token", "ms")] = MILLI * percentile([a.first for a in good], 0.5)
    gaps = [gap for answer in good for gap in answer.gaps]
    if gaps:
        for name, share in (("gap, median", 0.5), ("gap, p95", 0.95), ("gap, p99", 0.99)):
            sample[Metric(case, name, "ms")] = MILLI * percentile(gaps, share)
    return sample
