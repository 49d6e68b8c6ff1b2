"""Drawing with what knows nothing of slices: in a greenlet, which is left in the middle."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from greenlet import getcurrent, greenlet

from mlxsrv.core.image import DrawingStep

Switch = Callable[[], DrawingStep | None]


class GreenletRun(greenlet):
    """A drawing under way. What it holds is freed as soon as it has been stopped."""

    def slices(self, before: Callable[[], None]) -> Iterator[DrawingStep | None]:
        """What the work leaves with, at last its result; `before` is called before each slice.

        Closing the iterator stops the work where it stands.
        """
        try:
            while not self.dead:
                before()
                yield self._entered(self.switch)
        finally:
            if not self.dead:
                self._entered(self.throw)

    def _entered(self, switch: Switch) -> DrawingStep | None:
        self.parent = getcurrent()
        return switch()

    def leave(self, step: DrawingStep | None = None) -> None:
        """Ends the slice, with news; for the work to call."""
        assert self.parent is not None
        self.parent.switch(step)
