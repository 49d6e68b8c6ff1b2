"""Which sequences are in the batch, and who is to blame when a step fails. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do after a failed step: end the guilty, run the others again from their text."""

    guilty: list[int] = field(default_factory=list)
    again: list[int] = field(default_factory=list)


class Scheduler:
    """First come, first served, up to `max_batch` at a time.

    A step runs all sequences at once, so its exception names nobody. After a failure all that
    ran are suspects. They join again one by one, each proven by its first token; if a step
    fails meanwhile, the one on trial is tried again with nobody beside it, and is guilty if
    it fails alone. So one bad sequence ends alone, and a fault that does not come back ends
    nobody.
    """

    def __init__(self, max_batch: int) -> None:
        self._max_batch = max_batch
        self._waiting: deque[int] = deque()
        self._suspects: deque[int] = deque()
        self._running: dict[int, None] = {}
        self._trial: int | None = None

    @property
    def waiting(self) -> int:
        return len(self._waiting) + len(self._suspects)

    @property
    def running(self) -> int:
        return len(self._running)

    def add(self, uid: int) -> None:
        self._waiting.append(uid)

    def admit(self, fits: Callable[[int], bool] = lambda uid: True) -> list[int]:
        """The sequences to insert now; those behind one that does not fit yet wait with it."""
        if self._trial is not None:
            return []
        if self._suspects:
            self._trial = self._suspects.popleft()
            self._running[self._trial] = None
            return [self._trial]
        admitted: list[int] = []
        while self._waiting and len(self._running) < self._max_batch:
            if not fits(self._waiting[0]):
                break
            uid = self._waiting.popleft()
            self._running[uid] = None
            admitted.append(uid)
        return admitted

    def prove(self, uid: int) -> None:
        """A sequence has made a token."""
        if uid == self._trial:
            self._trial = None

    def discard(self, uid: int) -> bool:
        """Forgets a sequence wherever it is. Returns whether it was running."""
        self.prove(uid)
        if uid in self._running:
            del self._running[uid]
            return True
        for queue in (self._waiting, self._suspects):
            if uid in queue:
                queue.remove(uid)
        return False

    def fail(self) -> Verdict:
        """A step raised. Everybody leaves the batch."""
        ran, trial = list(self._running), self._trial
        self._running.clear()
        self._trial = None
        if ran == [trial]:
            return Verdict(guilty=ran)
        again = sorted(ran, key=lambda uid: uid != trial)
        self._suspects.extendleft(reversed(again))
        return Verdict(again=again)
