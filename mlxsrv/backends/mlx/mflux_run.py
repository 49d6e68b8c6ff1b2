"""A drawing of mflux's in slices.

mflux draws in one call, from which it calls back before, between and after its steps. The call
runs in a greenlet, which is left each time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import mlx.core as mx
from greenlet import getcurrent

from mlxsrv.backends.greenlet_run import GreenletRun
from mlxsrv.core.image import DrawingStep, Pixels

Show = Callable[[mx.array], Iterator[Pixels | None]]
"""What latents will look like, a slice at a time: the last one gives the picture."""


class Run(GreenletRun):
    """A drawing of so many steps; after those that are `shown`, counted from 1, there is a
    preview."""

    def __init__(
        self, work: Callable[[], DrawingStep], steps: int, shown: frozenset[int], show: Show
    ) -> None:
        super().__init__(work)
        self._steps = steps
        self._shown = shown
        self._show = show
        self._done = 0
        self._latents: mx.array | None = None

    def begun(self, latents: mx.array) -> None:
        mx.eval(latents)
        self._latents = latents
        self.leave()

    def stepped(self, latents: mx.array, sigma: float, after: float) -> None:
        """`sigma` was there before the step, `after` is now."""
        mx.eval(latents)
        before, self._latents = self._latents, latents
        self._done += 1
        preview = None
        if self._done in self._shown and before is not None:
            direction = (latents - before) / (after - sigma)
            preview = self._previewed(latents - after * direction)
        self.leave(DrawingStep(self._done, self._steps, preview))

    def _previewed(self, latents: mx.array) -> Pixels | None:
        for picture in self._show(latents):
            if picture is not None:
                return picture
            self.leave()
        return None


class Callbacks:
    """What mflux calls; the drawing that is under way is the greenlet that runs."""

    def call_before_loop(self, latents: mx.array, **_: Any) -> None:
        _running().begun(latents)

    def call_in_loop(self, t: int, latents: mx.array, config: Any, **_: Any) -> None:
        sigmas = config.scheduler.sigmas
        _running().stepped(latents, float(sigmas[t]), float(sigmas[t + 1]))

    def call_after_loop(self, **_: Any) -> None:
        _running().leave()


def _running() -> Run:
    run = getcurrent()
    assert isinstance(run, Run)
    return run
