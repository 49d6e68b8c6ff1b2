"""From the device thread to the event loop.

A loop that sleeps is dear to wake: the device thread pays for a system call, then the two
contend for the interpreter lock between the small operations of the next step, and that step
starts on a cold cache. With steps of two milliseconds that is a quarter of the speed. So where
wake-ups would come in quick succession, the loop comes by itself, at the pace of a screen.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

PACE_SECONDS = 0.016
"""A frame of a screen: nobody can see text any sooner."""


class Outbox:
    """Values for callbacks, in order. `put` is for the device thread, the rest for the loop's."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pace_seconds: float = PACE_SECONDS) -> None:
        self._loop = loop
        self._pace = pace_seconds
        self._held: deque[tuple[Callable[[Any], None], Any]] = deque()
        self._woken = False
        self._coming = False
        self._last_wake = 0.0

    def put(self, callback: Callable[[Any], None], value: object, *, can_wait: bool) -> None:
        """Has `callback(value)` called on the loop's thread; `can_wait` grants it the pace."""
        # Held before the flags are read: the loop clears a flag before it takes what is held.
        self._held.append((callback, value))
        if self._woken or (can_wait and self._coming):
            return
        self._woken = True
        with suppress(RuntimeError):  # the loop is closed: nobody is left to tell
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._woken = False
        now = time.monotonic()
        often = now - self._last_wake < self._pace / 2
        self._last_wake = now
        if often and not self._coming:
            self._come_later()
        self._hand_over()

    def _come_later(self) -> None:
        self._coming = True
        self._loop.call_later(self._pace, self._come)

    def _come(self) -> None:
        self._coming = False
        if len(self._held) > 1:
            self._come_later()
        self._hand_over()

    def _hand_over(self) -> None:
        try:
            while self._held:
                callback, value = self._held.popleft()
                callback(value)
        finally:
            if self._held:  # one raised, which the loop reports; the others go on
                self._loop.call_soon(self._hand_over)
