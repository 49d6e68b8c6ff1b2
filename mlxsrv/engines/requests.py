"""What engines that serve one reader a request have in common: who asks, and who is told."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from mlxsrv.backends.device import Device
from mlxsrv.core.errors import MlxsrvError, Overloaded
from mlxsrv.engines.mailbox import Mailbox
from mlxsrv.engines.waking import WakingJob

T = TypeVar("T")


class RequestStream(Generic[T]):
    """What comes of one request, on its way to its reader. Cancel it when done early.

    `started` once it has its turn, for which it may have waited.
    """

    def __init__(self, cancel: Callable[[Any], None], mailbox: Mailbox[T] | None = None) -> None:
        self.mailbox: Mailbox[T] = Mailbox() if mailbox is None else mailbox
        self.live = True
        self.started = False
        self._cancel = cancel

    def cancel(self) -> None:
        """Frees what the request holds before the next slice; nothing once it has ended."""
        if self.live:
            self.live = False
            self._cancel(self)

    def end(self, error: BaseException | None = None) -> None:
        self.live = False
        self.mailbox.end(error)


S = TypeVar("S", bound=RequestStream[Any])
R = TypeVar("R")


class Requests(Generic[S, R]):
    """The requests of an engine, and the job on the device thread that serves them.

    `submitted` and `cancelled` are what that job has not taken in yet; deques append and pop
    atomically. All else belongs to the event loop's thread. The job yields lists of a stream and
    what it gets: an item, the error that ended it, or None for its end.
    """

    def __init__(
        self,
        device: Device,
        kind: str,
        run: Callable[[], Iterator[list[tuple[S, Any]]]],
        *,
        most: int,
        max_queue: int,
    ) -> None:
        """`most` are taken besides the `max_queue` that may wait."""
        self.submitted: deque[R] = deque()
        self.cancelled: deque[S] = deque()
        self.job = WakingJob(device, kind, run, on_item=self._deliver, on_failure=self._failed)
        self._most = most
        self._max_queue = max_queue
        self._streams: dict[S, None] = {}

    @property
    def arrived(self) -> bool:
        """Whether there is anything to take in."""
        return bool(self.submitted or self.cancelled)

    def require_room(self) -> None:
        """Raises Overloaded."""
        if len(self._streams) >= self._max_queue + self._most:
            raise Overloaded(
                f"The queue is full: {self._max_queue} requests are waiting", retry_after=1.0
            )

    def submit(self, stream: S, running: R) -> None:
        """Raises DeviceDead."""
        self._streams[stream] = None
        self.submitted.append(running)
        self.job.wake()

    def cancel(self, stream: S) -> None:
        """For the stream to call."""
        self._streams.pop(stream, None)
        self.cancelled.append(stream)
        self.job.wake_if_alive()

    def refuse_next(self, error: MlxsrvError) -> None:
        """Ends the request that has waited longest for its turn with `error`."""
        stream = next((stream for stream in self._streams if not stream.started), None)
        if stream is not None:
            stream.cancel()
            stream.end(error)

    def cancel_all(self, error: MlxsrvError) -> None:
        """Ends every request with `error`."""
        for stream in list(self._streams):
            stream.cancel()
            stream.end(error)

    def _deliver(self, events: list[tuple[S, Any]]) -> None:
        for stream, event in events:
            if event is None or isinstance(event, Exception):
                stream.end(event)
                self._streams.pop(stream, None)
            else:
                stream.mailbox.put(event)

    def _failed(self, error: BaseException) -> None:
        """With the job all requests have ended."""
        self.submitted.clear()
        self.cancelled.clear()
        for stream in self._streams:
            stream.end(error)
        self._streams.clear()
