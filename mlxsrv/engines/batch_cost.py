"""What a batch of padded rows costs the device, learnt from those that ran. Pure.

Work is measured in tokens: a batch costs a fixed overhead, and each of its rows what a row of
the longest one's length costs, or where rows are packed what it costs itself.
"""

from __future__ import annotations

ATTENTION_LENGTH = 2048
"""About the length at which attention takes as long as the rest of a layer."""

UNKNOWN_ROOM = 512
"""Tokens for the first batch, before anything is known of the device."""

LEAST_OVERHEAD = 4.0
MOST_OVERHEAD = 2048.0
FORGETTING = 0.95
PROBE = 4
"""Every so many batches of like size one is half as large: without that nothing is learnt."""

LARGEST_SURPRISE = 1.5
"""A slice so many times slower than expected was held up by something else. What stays slow is
believed after a few."""


def row_cost(length: int) -> float:
    """What a row of `length` tokens costs, padding included, as tokens."""
    return length * (1 + length / ATTENTION_LENGTH)


class BatchCost:
    """Fits `seconds = speed * (overhead + work)` to what was observed, recent batches first."""

    def __init__(self) -> None:
        self.overhead = 32.0
        self._observed = 0
        self._alike = True
        self._seconds_per_token: float | None = None
        self._weight = self._x = self._y = self._xx = self._xy = 0.0

    def room(self, seconds: float) -> float:
        """The work, without the overhead, that a batch of so many seconds has room for.

        Never less than the overhead: on a device that is slow to start, or that others keep
        busy, smaller batches would hardly end sooner, and there would be many of them.
        """
        if self._seconds_per_token is None:
            return UNKNOWN_ROOM
        room = max(self.overhead, seconds / self._seconds_per_token - self.overhead)
        return room / 2 if self._alike and self._observed % PROBE == 0 else room

    def observe(self, work: float, seconds: float) -> None:
        """A batch of so much work, without the overhead, took so long."""
        self._observed += 1
        if self._seconds_per_token is not None:
            expected = self._seconds_per_token * (self.overhead + work)
            seconds = min(seconds, LARGEST_SURPRISE * expected)
        self._remember(work, seconds)
        mean, mean_seconds = self._x / self._weight, self._y / self._weight
        self._fit_overhead(mean, mean_seconds)
        self._seconds_per_token = max(mean_seconds, 1e-9) / (mean + self.overhead)

    def _remember(self, work: float, seconds: float) -> None:
        added = (1.0, work, seconds, work * work, work * seconds)
        sums = (self._weight, self._x, self._y, self._xx, self._xy)
        self._weight, self._x, self._y, self._xx, self._xy = (
            FORGETTING * before + now for before, now in zip(sums, added, strict=True)
        )

    def _fit_overhead(self, mean: float, mean_seconds: float) -> None:
        """A step towards the least-squares line's, where sizes differ enough to tell."""
        variance = self._xx / self._weight - mean * mean
        self._alike = variance < (mean / 5) ** 2
        if self._alike:
            return
        slope = (self._xy / self._weight - mean * mean_seconds) / variance
        at_zero = mean_seconds - slope * mean
        found = at_zero / slope if slope > 0 else MOST_OVERHEAD
        self.overhead += 0.1 * (max(LEAST_OVERHEAD, min(MOST_OVERHEAD, found)) - self.overhead)
