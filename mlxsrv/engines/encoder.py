"""The encoder engine: the rows of many requests in batches of like length.

`submit` is called on the event loop's thread; the batches run in `_run`, a job on the device
thread whose every slice is one batch.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from mlxsrv.backends.base import EmbeddingBackend, RerankBackend
from mlxsrv.backends.device import Device
from mlxsrv.backends.footprint import TOKENS_AT_ONCE
from mlxsrv.backends.load import free
from mlxsrv.backends.pacing import IDLE_FACTOR
from mlxsrv.core.encoding import TokenRow
from mlxsrv.core.errors import MlxsrvError, Overloaded
from mlxsrv.core.meters import EncoderMeters
from mlxsrv.engines.batch_cost import BatchCost
from mlxsrv.engines.encoder_task import EncoderTask, Values
from mlxsrv.engines.failures import failure_of
from mlxsrv.engines.length_batch import LengthBatcher, Row
from mlxsrv.engines.waking import WakingJob

MAX_WAITING_TOKENS = 4_000_000
"""Each takes some forty bytes of memory while it waits."""

Event = tuple[EncoderTask, list[int], Values | Exception]
"""The results of some of a task's rows, by their places, or what ended it."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Inbox:
    """What other threads ask of the engine; deques append and pop atomically."""

    submitted: deque[EncoderTask] = field(default_factory=deque)
    cancelled: deque[EncoderTask] = field(default_factory=deque)


@dataclass(slots=True)
class _Running:
    """A task known to the device thread, and how many of its rows are left."""

    task: EncoderTask
    left: int


class EncoderEngine:
    """Serves one embedding or rerank model."""

    def __init__(
        self,
        device: Device,
        backend: EmbeddingBackend | RerankBackend,
        compute: Callable[[Sequence[TokenRow]], Values],
        *,
        kind: Literal["embedding", "rerank"],
        slice_seconds: float,
        max_queue: int,
        packs: bool = False,
        meters: EncoderMeters | None = None,
    ) -> None:
        """`compute` is what `backend` does with one batch, padded unless it `packs`; `kind` names
        its slices."""
        self.meters = meters or EncoderMeters()
        self._device = device
        self._backend = backend
        self._compute = compute
        self._kind = kind
        self._slice_seconds = slice_seconds
        self._max_queue = max_queue
        self._uids = itertools.count()
        self._batcher = LengthBatcher(max_tokens=TOKENS_AT_ONCE, packs=packs)
        self._cost = BatchCost()
        self._suspects: deque[list[Row]] = deque()
        self._running: dict[int, _Running] = {}
        self._inbox = _Inbox()
        self._tasks: set[EncoderTask] = set()
        self._job = WakingJob(
            device,
            kind,
            self._run,
            on_item=self._deliver,
            on_failure=self._failed,
        )

    # On the event loop's thread

    def submit(self, rows: Sequence[TokenRow]) -> EncoderTask:
        """Queues the rows of one request, each of at least one token.

        Raises Overloaded, DeviceDead.
        """
        task = EncoderTask(next(self._uids), rows, self._cancel)
        self._require_room(task)
        self._tasks.add(task)
        self._inbox.submitted.append(task)
        self._job.wake()
        return task

    def _require_room(self, task: EncoderTask) -> None:
        """One request may run beside those that wait, however large it is."""
        if len(self._tasks) > self._max_queue:
            raise Overloaded(
                f"The queue is full: {self._max_queue} requests are waiting", retry_after=1.0
            )
        waiting = sum(task.tokens for task in self._tasks)
        if waiting and waiting + task.tokens > MAX_WAITING_TOKENS:
            raise Overloaded(f"The queue is full: {waiting} tokens are waiting", retry_after=1.0)

    def _cancel(self, task: EncoderTask) -> None:
        self._tasks.discard(task)
        self._inbox.cancelled.append(task)
        self._job.wake_if_alive()

    def cancel_all(self, error: MlxsrvError) -> None:
        """Ends every request with `error`."""
        for task in list(self._tasks):
            task.fail(error)
            self._cancel(task)

    async def close(self) -> None:
        """Frees the model, which no request uses any more."""
        await self._device.call(self._close, kind="unload")

    def _deliver(self, events: list[Event]) -> None:
        for task, places, outcome in events:
            if isinstance(outcome, Exception):
                task.fail(outcome)
            else:
                task.accept(places, outcome)
            if task.ended:
                self._tasks.discard(task)

    def _failed(self, error: BaseException) -> None:
        """With the job all requests have ended."""
        self._inbox = _Inbox()
        for task in self._tasks:
            task.fail(error)
        self._tasks.clear()

    # On the device thread

    def _run(self) -> Iterator[list[Event]]:
        try:
            yield from self._slices()
        except BaseException:
            for uid in list(self._running):
                self._drop(uid)
            raise

    def _slices(self) -> Iterator[list[Event]]:
        while True:
            self._take_in()
            if self._running:
                yield self._slice()
                continue
            if self._job.rests(lambda: not (self._inbox.submitted or self._inbox.cancelled)):
                return

    def _take_in(self) -> None:
        while self._inbox.submitted:
            task = self._inbox.submitted.popleft()
            self._running[task.uid] = _Running(task, len(task.rows))
            self._batcher.add(task.uid, [len(row.ids) for row in task.rows])
        while self._inbox.cancelled:
            self._drop(self._inbox.cancelled.popleft().uid)
        self._observe_queue()

    def _observe_queue(self) -> None:
        self.meters.queue_length = self._batcher.rows + sum(map(len, self._suspects))

    def _drop(self, uid: int) -> None:
        self._running.pop(uid, None)
        self._batcher.discard(uid)
        kept = ([row for row in rows if row.request != uid] for rows in self._suspects)
        self._suspects = deque(rows for rows in kept if rows)

    def _slice(self) -> list[Event]:
        suspected = bool(self._suspects)
        rows = self._suspects.popleft() if suspected else self._next()
        given = [self._running[row.request].task.rows[row.place] for row in rows]
        started = time.perf_counter()
        try:
            values = self._compute(given)
        except Exception as error:
            log.warning("a batch failed", exc_info=error)
            events = self._blame(rows, error, suspected=suspected)
        else:
            self._observe(rows, time.perf_counter() - started)
            events = self._results(rows, values)
        self._observe_queue()
        return events

    def _next(self) -> list[Row]:
        """With nobody else on the device a batch may take several slices: it uses it better."""
        alone = self._device.meters.queue_length <= 1
        room = self._cost.room(self._slice_seconds) * (IDLE_FACTOR if alone else 1)
        return self._batcher.next(room, self._cost.overhead)

    def _observe(self, rows: Sequence[Row], seconds: float) -> None:
        self._cost.observe(self._batcher.work(rows), seconds)
        self.meters.batches += 1
        self.meters.rows += len(rows)
        self.meters.tokens += sum(row.length for row in rows)
        self.meters.padding_tokens += self._batcher.padding(rows)

    def _results(self, rows: Sequence[Row], values: Values) -> list[Event]:
        by_request: dict[int, list[int]] = {}
        for number, row in enumerate(rows):
            by_request.setdefault(row.request, []).append(number)
        events: list[Event] = []
        for uid, own in by_request.items():
            running = self._running[uid]
            events.append((running.task, [rows[number].place for number in own], values[own]))
            running.left -= len(own)
            if running.left == 0:
                self._drop(uid)
        return events

    def _blame(self, rows: list[Row], error: Exception, *, suspected: bool) -> list[Event]:
        """A failed batch names nobody: its halves run again, until a row fails alone and again."""
        if len(rows) > 1 or not suspected:
            middle = (len(rows) + 1) // 2
            halves = (rows[middle:], rows[:middle])
            self._suspects.extendleft(half for half in halves if half)
            return []
        task = self._running[rows[0].request].task
        log.error("a request failed", exc_info=error)
        self._drop(task.uid)
        return [(task, [], failure_of(error, "answered this request"))]

    def _close(self) -> None:
        self._backend.close()
        free(self._backend.facts.backend)
