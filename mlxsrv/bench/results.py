"""What was measured, by target and round; pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from mlxsrv.backends.select import Backend
from mlxsrv.bench.metrics import Metric, Sample
from mlxsrv.bench.stats import Spread, ratio

Role = Literal["limit", "ours", "peer"]


@dataclass(slots=True)
class Target:
    """One of those measured, and its sample of every round."""

    name: str
    family: Backend | None
    role: Role
    samples: list[Sample] = field(default_factory=list)

    def values(self, metric: Metric) -> list[float]:
        return [sample[metric] for sample in self.samples if metric in sample]

    def over(self, other: Target, metric: Metric) -> float | None:
        """The median ratio of this target to another, over the rounds that both have."""
        pairs = [
            (mine[metric], theirs[metric])
            for mine, theirs in zip(self.samples, other.samples, strict=False)
            if metric in mine and metric in theirs
        ]
        return ratio([mine for mine, _ in pairs], [theirs for _, theirs in pairs])


@dataclass(slots=True)
class Result:
    """One scenario on one checkpoint. `notes` say what could not be measured, and why."""

    scenario: str
    summary: str
    checkpoint: str
    targets: list[Target] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def metrics(self) -> list[Metric]:
        """All that any target has, in the order they were measured."""
        seen = (metric for t in self.targets for sample in t.samples for metric in sample)
        return list(dict.fromkeys(seen))

    def relative(self, role: Role, target: Target) -> Target | None:
        """The limit, or our server, that a target is to be compared with."""
        for other in self.targets:
            comparable = other.family in (target.family, None)
            if other.role == role and other is not target and comparable:
                return other
        return None

    def json(self) -> dict[str, Any]:
        return {
            "scenario": self.scenario,
            "checkpoint": self.checkpoint,
            "notes": self.notes,
            "targets": [self._target_json(target) for target in self.targets],
        }

    def _target_json(self, target: Target) -> dict[str, Any]:
        return {
            "name": target.name,
            "family": target.family,
            "role": target.role,
            "metrics": [
                self._metric_json(target, metric)
                for metric in self.metrics()
                if target.values(metric)
            ],
        }

    def _metric_json(self, target: Target, metric: Metric) -> dict[str, Any]:
        values = target.values(metric)
        spread = Spread.of(values)
        limit, ours = self.relative("limit", target), self.relative("ours", target)
        return {
            "case": metric.case,
            "name": metric.name,
            "unit": metric.unit,
            "better": metric.better,
            "median": spread.median,
            "least": spread.least,
            "most": spread.most,
            "of_limit": target.over(limit, metric) if limit else None,
            "ours_over_this": ours.over(target, metric) if ours else None,
            "rounds": values,
        }
