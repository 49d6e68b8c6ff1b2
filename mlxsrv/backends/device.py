"""The device thread: the one thread that loads and runs every model.

MLX's streams and lazy arrays belong to the thread that made them, and a machine has one
device, so all work comes here as iterators. One turn advances one job by one slice and hands
what it made to the event loop. A slice that raises ends its own job; the loop goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from typing import Any, Generic, TypeVar

from mlxsrv.backends.fairness import FairShare
from mlxsrv.backends.outbox import Outbox
from mlxsrv.core.errors import DeviceDead
from mlxsrv.core.meters import DeviceMeters

T = TypeVar("T")
S = TypeVar("S")

log = logging.getLogger(__name__)


class Job(Generic[T]):
    """One iterator on the device, and where its items and its end are delivered.

    `on_item` and `on_end` are called on the event loop's thread, in order, `on_end` once:
    with None when the iterator was exhausted or cancelled, else with its exception. Items that
    `can_wait` may come some milliseconds late; see `Outbox`.
    """

    def __init__(
        self,
        kind: str,
        make: Callable[[], Iterator[T]],
        on_item: Callable[[T], None],
        on_end: Callable[[BaseException | None], None],
        weight: float,
        can_wait: Callable[[T], bool],
    ) -> None:
        self.kind = kind
        self.weight = weight
        self.on_item = on_item
        self.on_end = on_end
        self.can_wait = can_wait
        self._make = make
        self._iterator: Iterator[T] | None = None
        self._cancelled = False

    def cancel(self) -> None:
        """Ends the job before its next slice. May be called from any thread, more than once."""
        self._cancelled = True

    def advance(self) -> T:
        """Runs one slice on the device thread. Raises StopIteration at the end."""
        if self._cancelled:
            self.close()
            raise StopIteration
        if self._iterator is None:
            self._iterator = iter(self._make())
        return next(self._iterator)

    def close(self) -> None:
        close = getattr(self._iterator, "close", None)
        if close is not None:
            close()


class Device:
    """Runs jobs fairly on its own thread; made and used on the event loop's thread."""

    def __init__(self, *, at_exit: Callable[[], None] | None = None) -> None:
        """`at_exit` runs last on the device thread."""
        self.meters = DeviceMeters()
        self._at_exit = at_exit
        self._inbox: deque[Job[Any]] = deque()
        self._wake = threading.Event()
        self._stopping = False
        self._failure: BaseException | None = None
        self._jobs: FairShare[Job[Any]] = FairShare()
        self._thread = threading.Thread(target=self._main, name="device")
        self._outbox: Outbox | None = None
        self._died = asyncio.Event()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive() and self._failure is None

    def start(self) -> None:
        """Starts the thread; its events go to the running event loop."""
        self._outbox = Outbox(asyncio.get_running_loop())
        self._thread.start()

    async def died(self) -> None:
        """Returns once the thread has died of an exception; never, where it is stopped."""
        await self._died.wait()

    async def stop(self) -> None:
        """Ends the thread after its current slice; jobs that are left end with DeviceDead."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)

    def submit(
        self,
        kind: str,
        make: Callable[[], Iterator[T]],
        *,
        on_item: Callable[[T], None],
        on_end: Callable[[BaseException | None], None],
        weight: float = 1.0,
        can_wait: Callable[[T], bool] = lambda item: False,
    ) -> Job[T]:
        """Queues a job. `make` and `can_wait` run on the device thread. Raises DeviceDead."""
        if not self.alive or self._stopping:
            raise DeviceDead("the device thread is not running")
        job = Job(kind, make, on_item, on_end, weight, can_wait)
        self._inbox.append(job)
        self._wake.set()
        if not self.alive:  # it died between the check and the append
            self._bury()
        return job

    async def call(self, fn: Callable[[], T], *, kind: str = "call") -> T:
        """Runs `fn` on the device thread as one slice. Raises what `fn` raises."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def item(value: T) -> None:
            if not future.done():
                future.set_result(value)

        def end(error: BaseException | None) -> None:
            if not future.done():
                future.set_exception(error or DeviceDead("the call was cancelled"))

        def once() -> Iterator[T]:
            yield fn()

        job = self.submit(kind, once, on_item=item, on_end=end)
        try:
            return await future
        finally:
            job.cancel()

    async def run(
        self,
        kind: str,
        make: Callable[[], Generator[S, None, T]],
        *,
        on_step: Callable[[S], None] | None = None,
    ) -> T:
        """Runs a generator to its end on the device thread, a slice a step.

        Returns what it returns; raises what it raises. `on_step` hears of what it yields.
        """
        results: list[T] = []

        def steps() -> Iterator[S]:
            results.append((yield from make()))

        async with contextlib.aclosing(self.stream(kind, steps)) as yielded:
            async for step in yielded:
                if on_step is not None:
                    on_step(step)
        return results[0]

    async def stream(
        self, kind: str, make: Callable[[], Iterator[T]], *, weight: float = 1.0
    ) -> AsyncGenerator[T, None]:
        """The items of an iterator that runs on the device thread, one slice each."""
        queue: asyncio.Queue[tuple[bool, Any]] = asyncio.Queue()
        job = self.submit(
            kind,
            make,
            on_item=lambda item: queue.put_nowait((True, item)),
            on_end=lambda error: queue.put_nowait((False, error)),
            weight=weight,
        )
        try:
            while True:
                is_item, value = await queue.get()
                if is_item:
                    yield value
                elif value is not None:
                    raise value
                else:
                    return
        finally:
            job.cancel()

    # On the device thread from here on.

    def _main(self) -> None:
        try:
            while not self._stopping:
                self._take_in()
                if len(self._jobs):
                    self._turn()
                else:
                    self._wake.wait()
        except BaseException as error:
            self._failure = error
            log.critical("the device thread died", exc_info=error)
        finally:
            self._bury()
            if self._failure is not None:
                self._deliver(lambda _: self._died.set(), None)
            if self._at_exit is not None:
                self._at_exit()

    def _take_in(self) -> None:
        self._wake.clear()
        while self._inbox:
            job = self._inbox.popleft()
            self._jobs.add(job, job.weight)
        self.meters.queue_length = len(self._jobs)

    def _turn(self) -> None:
        job = self._jobs.pick()
        started = time.perf_counter()
        try:
            item = job.advance()
        except StopIteration:
            self._end(job, None)
            return
        except Exception as error:
            self._end(job, error)
            return
        seconds = time.perf_counter() - started
        self._jobs.charge(job, seconds)
        self.meters.observe(job.kind, seconds)
        self._deliver(job.on_item, item, can_wait=job.can_wait(item))

    def _end(self, job: Job[Any], error: BaseException | None) -> None:
        self._jobs.remove(job)
        self._deliver(job.on_end, error)

    def _deliver(
        self, callback: Callable[[Any], None], value: object, *, can_wait: bool = False
    ) -> None:
        assert self._outbox is not None
        self._outbox.put(callback, value, can_wait=can_wait)

    def _bury(self) -> None:
        """Tells every job that is left that the device is gone."""
        dead = DeviceDead("the device thread has stopped")
        dead.__cause__ = self._failure
        while len(self._jobs):
            job = self._jobs.pick()
            with contextlib.suppress(Exception):
                job.close()
            self._end(job, dead)
        while self._inbox:
            self._deliver(self._inbox.popleft().on_end, dead)
