"""The few statistics that a report needs; pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of them lie, between neighbours by proportion.

    Raises ValueError without values.
    """
    if not values:
        raise ValueError("a percentile of nothing")
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = ordered[math.floor(place)]
    above = ordered[math.ceil(place)]
    return below + (above - below) * (place - math.floor(place))


@dataclass(frozen=True, slots=True)
class Spread:
    """The middle and the ends of what several rounds measured."""

    median: float
    least: float
    most: float
    rounds: int

    @staticmethod
    def of(values: Sequence[float]) -> Spread:
        return Spread(median(values), min(values), max(values), len(values))


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float | None:
    """The median of what two targets measured in the same rounds, one divided by the other.

    Rounds are compared pairwise, for what slows the machine down slows both. None where
    there is nothing to compare.
    """
    pairs = [one / other for one, other in zip(ours, theirs, strict=False) if other > 0]
    return median(pairs) if pairs else None
