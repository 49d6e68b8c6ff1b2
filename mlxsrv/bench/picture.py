"""Throughput and latency over the number of streams, as a PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlxsrv.bench.results import Result, Target
from mlxsrv.bench.stats import Spread
from mlxsrv.core.errors import ConfigError

PANELS = (
    ("throughput", "tokens per second", False),
    ("first token", "first token, ms", True),
    ("gap, p95", "gap between tokens, p95, ms", True),
)
STYLES = {"limit": "--", "ours": "-", "peer": ":"}
DPI = 120


def curve(target: Target, name: str) -> list[tuple[int, Spread]]:
    """A metric's spread by number of streams, which is what its cases begin with."""
    found = {metric for sample in target.samples for metric in sample if metric.name == name}
    points = [(int(m.case.split()[0]), Spread.of(target.values(m))) for m in found]
    return sorted(points, key=lambda point: point[0])


def draw(results: Sequence[Result], path: Path) -> None:
    """Writes the picture of throughput results. Raises ConfigError without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError("--picture: pip install 'mlxsrv[bench]' to draw it") from None
    size = (5 * len(PANELS), 4 * len(results))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(results), len(PANELS), squeeze=False)
    for row, result in zip(axes, results, strict=True):
        for axis, (name, label, logarithmic) in zip(row, PANELS, strict=True):
            _panel(axis, result, name)
            axis.set_title(f"{result.checkpoint}: {label}")
            if logarithmic:
                axis.set_yscale("log")
                axis.yaxis.set_major_formatter("{x:g}")
                axis.yaxis.set_minor_formatter("{x:g}")
            else:
                axis.set_ylim(bottom=0)
        row[0].legend(fontsize="small")
    figure.savefig(path, dpi=DPI)


def _panel(axis: Any, result: Result, name: str) -> None:
    """One line a target, with bars from the least to the most that a round measured."""
    ticks: set[int] = set()
    for place, target in enumerate(result.targets):
        points = curve(target, name)
        if not points:
            continue
        streams = [count for count, _ in points]
        spreads = [spread for _, spread in points]
        below = [s.median - s.least for s in spreads]
        above = [s.most - s.median for s in spreads]
        axis.errorbar(
            streams,
            [s.median for s in spreads],
            yerr=(below, above),
            label=f"{target.name} (limit)" if target.role == "limit" else target.name,
            color=f"C{place}",
            linestyle=STYLES[target.role],
            marker="o",
            markersize=4,
            capsize=2,
        )
        ticks |= set(streams)
    axis.set_xscale("log", base=2)
    axis.set_xticks(sorted(ticks), [str(count) for count in sorted(ticks)])
    axis.set_xlabel("concurrent streams")
    axis.grid(alpha=0.3)
