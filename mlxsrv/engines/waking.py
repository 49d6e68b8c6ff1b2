"""An engine's job on the device thread: it ends when there is nothing to do, and starts again."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from mlxsrv.backends.device import Device
from mlxsrv.core.errors import DeviceDead, MlxsrvError

T = TypeVar("T")


class WakingJob(Generic[T]):
    """At most one job at a time. Who leaves it something to do wakes it afterwards; it rests only
    where nothing was left meanwhile, so that nothing lies forgotten."""

    def __init__(
        self,
        device: Device,
        kind: str,
        run: Callable[[], Iterator[T]],
        *,
        on_item: Callable[[T], None],
        on_failure: Callable[[BaseException], None],
        **options: Any,
    ) -> None:
        """`run` ends once `rests` says so; `on_failure` is told what ended the job otherwise.

        The rest is as in `Device.submit`.
        """
        self._device = device
        self._kind = kind
        self._run = run
        self._on_item = on_item
        self._on_failure = on_failure
        self._options = options
        self._idle = threading.Lock()
        self._active = False

    def wake(self) -> None:
        """May be called from any thread. Raises DeviceDead, after `on_failure`."""
        with self._idle:
            if self._active:
                return
            self._active = True
        try:
            self._device.submit(
                self._kind, self._run, on_item=self._on_item, on_end=self._ended, **self._options
            )
        except MlxsrvError as error:
            self._ended(error)
            raise

    def wake_if_alive(self) -> None:
        """As `wake`; where the device is dead all requests have been told and nothing is left to
        free."""
        with contextlib.suppress(DeviceDead):
            self.wake()

    def rests(self, is_idle: Callable[[], bool]) -> bool:
        """Whether the job ends now, as `is_idle` says. On the device thread."""
        with self._idle:
            if not is_idle():
                return False
            self._active = False
            return True

    def _ended(self, error: BaseException | None) -> None:
        if error is not None:
            self._active = False
            self._on_failure(error)
