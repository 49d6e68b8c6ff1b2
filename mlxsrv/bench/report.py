"""Results as a table to read and as JSON to keep; pure, but for asking what machine this is."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from mlxsrv import __version__
from mlxsrv.bench.metrics import ERRORS, Metric
from mlxsrv.bench.results import Result, Target
from mlxsrv.bench.settings import Settings
from mlxsrv.bench.stats import Spread

HEAD = ("METRIC", "TARGET", "MEDIAN", "LEAST", "MOST", "OF LIMIT", "OURS / THIS")
PACKAGES = (
    *("mlx", "mlx-lm", "mlx-whisper", "torch", "transformers"),
    *("uvicorn", "vllm-mlx", "llama-cpp-python"),
)
WHOLE_FROM = 100
TENTHS_FROM = 10
HUNDREDTHS_FROM = 0.1


def title(result: Result) -> str:
    return f"{result.scenario} on {result.checkpoint}: {result.summary}"


def rows(result: Result) -> list[tuple[str, ...]]:
    """The table under `HEAD`; a metric is named in the first of its rows only."""
    shown = (metric for metric in result.metrics() if not _no_errors(result, metric))
    return [row for metric in shown for row in _rows(result, metric)]


def remarks(result: Result) -> list[str]:
    """What else is to be said: whether all went well, and what could not be measured."""
    errors = [metric for metric in result.metrics() if metric.name == ERRORS]
    clean = bool(errors) and all(_no_errors(result, metric) for metric in errors)
    return [*(["no errors"] if clean else []), *(f"note: {note}" for note in result.notes)]


def _no_errors(result: Result, metric: Metric) -> bool:
    return metric.name == ERRORS and not any(
        any(target.values(metric)) for target in result.targets
    )


def _rows(result: Result, metric: Metric) -> Iterator[tuple[str, ...]]:
    name = f"{metric.label}, {metric.unit}" if metric.unit else metric.label
    for target in result.targets:
        values = target.values(metric)
        if not values:
            continue
        spread = Spread.of(values)
        figures = (number(spread.median), number(spread.least), number(spread.most))
        yield (name, target.name, *figures, *_ratios(result, target, metric))
        name = ""


def _ratios(result: Result, target: Target, metric: Metric) -> tuple[str, str]:
    limit = result.relative("limit", target) if target.role != "limit" else None
    ours = result.relative("ours", target) if target.role == "peer" else None
    of_limit = target.over(limit, metric) if limit else None
    over = ours.over(target, metric) if ours else None
    return _ratio(of_limit), _ratio(over)


def _ratio(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.2f}" if value >= HUNDREDTHS_FROM else f"{value:.2g}"


def number(value: float) -> str:
    """With about three significant digits, and whole where it is whole."""
    if value == int(value) or abs(value) >= WHOLE_FROM:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= TENTHS_FROM else f"{value:.2f}"


def document(results: Sequence[Result], settings: Settings) -> dict[str, Any]:
    """Everything, with what is needed to know where it came from."""
    return {
        "mlxsrv": __version__,
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": machine(),
        "settings": {
            "rounds": settings.rounds,
            "concurrency": settings.concurrency,
            "prompt_tokens": settings.prompt_tokens,
            "max_tokens": settings.max_tokens,
            "stream": settings.stream,
            "api": settings.api,
            "requests": settings.requests,
            "sentences": settings.sentences,
            "cycles": settings.cycles,
            "seconds": settings.seconds,
            "minutes": settings.minutes,
        },
        "results": [result.json() for result in results],
    }


def machine() -> dict[str, Any]:
    return {
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
