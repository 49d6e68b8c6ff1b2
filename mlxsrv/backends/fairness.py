"""Which job has the device next: stride scheduling over time used, pure."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class FairShare(Generic[K]):
    """Shares a device among jobs in proportion to their weights.

    Stride scheduling (Waldspurger and Weihl, 1995) with measured seconds as the stride: the
    job that has used the least weighted time goes next. A newcomer starts level with the job
    that is furthest behind, so it neither starves the others nor is starved.
    """

    def __init__(self) -> None:
        self._used: dict[K, float] = {}
        self._weight: dict[K, float] = {}

    def __len__(self) -> int:
        return len(self._used)

    def add(self, job: K, weight: float = 1.0) -> None:
        if weight <= 0:
            raise ValueError("weight must be positive")
        self._used[job] = min(self._used.values(), default=0.0)
        self._weight[job] = weight

    def remove(self, job: K) -> None:
        del self._used[job], self._weight[job]

    def pick(self) -> K:
        """The job to run next; ties go to the one that was added first."""
        return min(self._used, key=self._used.__getitem__)

    def charge(self, job: K, seconds: float) -> None:
        self._used[job] += seconds / self._weight[job]
