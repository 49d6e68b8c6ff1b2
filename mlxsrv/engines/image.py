"""The image engine: pictures of many requests, drawn in turns by one model.

`submit` is called on the event loop's thread. `_run` is a job on the device thread, whose every
slice is one of the backend's. The requests under way share the device by time, so that a small
picture does not wait for a large one; what each takes in memory is reserved before it begins.
"""

from __future__ import annotations

import itertools
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from mlxsrv.backends.adapter import Adapter
from mlxsrv.backends.base import ImageBackend
from mlxsrv.backends.device import Device
from mlxsrv.backends.fairness import FairShare
from mlxsrv.backends.load import free
from mlxsrv.core.errors import MlxsrvError, TooLargeForMemory
from mlxsrv.core.image import Drawing, DrawingStep, ImageRequest, ImageUpdate
from mlxsrv.core.meters import ImageMeters
from mlxsrv.engines.cache_room import CacheRoom
from mlxsrv.engines.failures import failure_of
from mlxsrv.engines.image_stream import ImageStream
from mlxsrv.engines.memory import MemoryBudget, size
from mlxsrv.engines.requests import Requests

MOST_RUNNING = 4
"""Requests whose pictures are drawn at a time, where memory allows."""

SHORTEST = 0.005
"""Seconds that a slice counts for at least: one that merely waits for another's would otherwise
have thousands of turns before that one's next."""

SEED_BITS = 32
"""Of a seed that is drawn: few enough to be told, and typed again."""

log = logging.getLogger(__name__)

Event = tuple[ImageStream, ImageUpdate | Exception | None]
"""An update, what ended a request, or None for its end."""


@dataclass(slots=True, eq=False)
class _Running:
    """A request known to the device thread, and its current picture, of which `done` steps are
    done. It takes `need` bytes while it is drawn."""

    uid: int
    stream: ImageStream
    request: ImageRequest
    drawing: Drawing
    need: int = 0
    index: int = 0
    done: int = 0
    steps: Iterator[DrawingStep | None] | None = None

    def update(self, step: DrawingStep) -> ImageUpdate:
        seed = self.drawing.seed
        return ImageUpdate(self.index, seed, step.done, step.steps, step.preview, step.picture)

    def turn_over(self) -> None:
        """To the next picture."""
        self.index += 1
        self.drawing = replace(self.drawing, seed=self.drawing.seed + 1)
        self.done, self.steps = 0, None


class ImageEngine:
    """Serves one model that makes pictures."""

    def __init__(
        self,
        device: Device,
        backend: ImageBackend,
        *,
        max_queue: int,
        memory: MemoryBudget,
        on_short: Callable[[int], None] = lambda nbytes: None,
        meters: ImageMeters | None = None,
    ) -> None:
        """`on_short` is called on the device thread with what is missing when `memory` has no
        room for a picture."""
        self.meters = meters or ImageMeters()
        self._device = device
        self._backend = backend
        self._memory = memory
        self._requests: Requests[ImageStream, _Running] = Requests(
            device, "image", self._run, most=MOST_RUNNING, max_queue=max_queue
        )
        self._uids = itertools.count()
        self._leave_memory = memory.on_release(self._retry)
        # Of the device thread
        self._room = CacheRoom(memory, lambda nbytes: nbytes, on_short)
        self._waiting: deque[_Running] = deque()
        self._running: dict[ImageStream, _Running] = {}
        self._turns: FairShare[_Running] = FairShare()
        self._events: list[Event] = []

    # On the event loop's thread

    def submit(self, request: ImageRequest) -> ImageStream:
        """Queues a request. Raises Overloaded, DeviceDead."""
        self._requests.require_room()
        stream = ImageStream(self._requests.cancel)
        seed = secrets.randbits(SEED_BITS) if request.seed is None else request.seed
        running = _Running(next(self._uids), stream, request, request.drawing(seed))
        self._requests.submit(stream, running)
        return stream

    def refuse_next(self, error: MlxsrvError) -> None:
        """Ends the request that has waited longest for its turn with `error`."""
        self._requests.refuse_next(error)

    def cancel_all(self, error: MlxsrvError) -> None:
        """Ends every request with `error`."""
        self._requests.cancel_all(error)

    async def add_adapter(self, name: str, adapter: Adapter) -> None:
        """Makes a LoRA adapter known. Raises InvalidRequest where it does not fit."""
        await self._device.call(lambda: self._backend.add_adapter(name, adapter), kind="load")

    async def remove_adapter(self, name: str) -> None:
        """Forgets an adapter that no request uses."""
        await self._device.call(lambda: self._backend.remove_adapter(name), kind="unload")

    async def close(self) -> None:
        """Frees the model, which no request uses any more."""
        await self._device.call(self._close, kind="unload")

    def _retry(self) -> None:
        """Memory was given back, on whatever thread: those that wait for some try again."""
        if self._waiting:
            self._requests.job.wake_if_alive()

    # On the device thread

    def _run(self) -> Iterator[list[Event]]:
        try:
            yield from self._slices()
        except BaseException:
            self._drop_all()
            raise

    def _slices(self) -> Iterator[list[Event]]:
        while True:
            self._take_in()
            if self._running or self._events:
                if self._running:
                    self._slice(self._turns.pick())
                events, self._events = self._events, []
                yield events
                continue
            if self._requests.job.rests(lambda: not self._requests.arrived and self._may_rest()):
                return

    def _may_rest(self) -> bool:
        """Whether those that wait for a turn can't have it until something else happens."""
        return not self._waiting or self._room.waits

    def _take_in(self) -> None:
        requests = self._requests
        while requests.submitted:
            self._enqueue(requests.submitted.popleft())
        while requests.cancelled:
            self._leave(requests.cancelled.popleft())
        while self._waiting and len(self._running) < MOST_RUNNING:
            if not self._room.take(self._waiting[0].uid, self._waiting[0].need):
                break
            self._begin(self._waiting.popleft())
        self._observe()

    def _enqueue(self, running: _Running) -> None:
        try:
            running.need = self._need(running.drawing)
        except Exception as error:
            self._fail(running, error)
        else:
            self._waiting.append(running)

    def _need(self, drawing: Drawing) -> int:
        """What a picture takes. Raises TooLargeForMemory where it never fits."""
        need, model = self._backend.working_bytes(drawing), self._backend.facts.memory_bytes
        if need + model > self._memory.limit:
            raise TooLargeForMemory(
                f"size: a picture of {drawing.width}x{drawing.height} needs {size(need)} of "
                f"memory beside the {size(model)} of the model, and the budget is "
                f"{size(self._memory.limit)}",
                param="size",
            )
        return need

    def _begin(self, running: _Running) -> None:
        running.stream.started = True
        self._running[running.stream] = running
        self._turns.add(running)

    def _observe(self) -> None:
        self.meters.queue_length = len(self._waiting)
        self.meters.running = len(self._running)

    def _leave(self, stream: ImageStream) -> None:
        for running in [self._running.get(stream), *self._waiting]:
            if running is not None and running.stream is stream:
                self._drop(running)
                return

    def _slice(self, running: _Running) -> None:
        started = time.perf_counter()
        try:
            self._draw(running)
        except Exception as error:
            self._fail(running, error)
            return
        self._turns.charge(running, max(SHORTEST, time.perf_counter() - started))
        if running.index >= running.request.n:
            self._events.append((running.stream, None))
            self._drop(running)

    def _draw(self, running: _Running) -> None:
        """One slice of the current picture. That it has begun is told as no steps done."""
        begins = running.steps is None
        if running.steps is None:
            running.steps = self._backend.draw(running.drawing)
        step = next(running.steps)
        if step is None and begins:
            step = DrawingStep(0, running.drawing.steps)
        if step is None:
            return
        self._events.append((running.stream, running.update(step)))
        self.meters.steps += step.done - running.done
        running.done = step.done
        if step.picture is not None:
            self.meters.pictures += 1
            self._end_picture(running)
            running.turn_over()

    def _end_picture(self, running: _Running) -> None:
        """Frees what the picture holds; where that fails, others go on."""
        close = getattr(running.steps, "close", None)
        try:
            if close is not None:
                close()
        except Exception as error:
            log.error("a picture could not be given up", exc_info=error)

    def _fail(self, running: _Running, error: Exception) -> None:
        """Ends one request, and nothing else."""
        failure = failure_of(error, "drew this picture")
        if failure is not error:
            log.error("a request failed", exc_info=error)
        self._events.append((running.stream, failure))
        self._drop(running)

    def _drop(self, running: _Running) -> None:
        if self._running.pop(running.stream, None) is not None:
            self._turns.remove(running)
        if running in self._waiting:
            self._waiting.remove(running)
        self._end_picture(running)
        self._room.release(running.uid)

    def _drop_all(self) -> None:
        for running in [*self._running.values(), *self._waiting]:
            self._drop(running)

    def _close(self) -> None:
        """Requests that were given up a moment ago may still be here."""
        self._leave_memory()
        self._requests.submitted.clear()
        self._drop_all()
        self._backend.close()
        free(self._backend.facts.backend)
