"""The transcription engine: the windows of many recordings, decoded together.

`submit` is called on the event loop's thread. The transcripts run in `_run`, a job on the
device thread whose every slice is a part of an encoding or one step of all decoder rows; what
needs no device runs on a small pool of threads.
"""

from __future__ import annotations

import itertools
import logging
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from mlxsrv.backends.base import Encoded, TranscriptionBackend
from mlxsrv.backends.device import Device
from mlxsrv.backends.load import free
from mlxsrv.core.errors import MlxsrvError
from mlxsrv.core.meters import TranscriptionMeters
from mlxsrv.core.transcription import TranscriptionRequest, TranscriptionUpdate
from mlxsrv.engines.cache_room import CacheRoom
from mlxsrv.engines.failures import failure_of
from mlxsrv.engines.memory import MemoryBudget
from mlxsrv.engines.requests import Requests
from mlxsrv.engines.scheduler import Scheduler
from mlxsrv.engines.transcription_stream import TranscriptionStream
from mlxsrv.engines.whisper.transcript import (
    Align,
    Ask,
    Decode,
    DecoderRow,
    Encode,
    Open,
    Steps,
    Whisper,
    Work,
    transcribe,
)

MOST_RUNNING = 8
"""Transcripts at a time, where memory allows."""

THREADS = 2

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Running:
    """A transcript known to the device thread, how far it has come, and what it waits for."""

    uid: int
    stream: TranscriptionStream
    steps: Steps
    seconds: float = 0.0
    generated: int = 0
    work: Future[Any] | None = None
    rows: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Placed:
    """A decoder row, whose it is, and what it listens to."""

    owner: _Running
    row: DecoderRow
    window: Encoded


Event = tuple[TranscriptionStream, TranscriptionUpdate | Exception | None]
"""An update, what ended a transcript, or None for its end."""


class TranscriptionEngine:
    """Serves one Whisper model."""

    def __init__(
        self,
        device: Device,
        backend: TranscriptionBackend,
        whisper: Whisper,
        *,
        max_batch: int,
        max_queue: int,
        memory: MemoryBudget,
        recording_bytes: int = 0,
        on_short: Callable[[int], None] = lambda nbytes: None,
        meters: TranscriptionMeters | None = None,
    ) -> None:
        """`recording_bytes` is what a transcript takes, from its beginning to its end; `on_short`
        is called on the device thread with what is missing when `memory` has no room for one."""
        self.meters = meters or TranscriptionMeters()
        self._device = device
        self._backend = backend
        self._whisper = whisper
        self._requests: Requests[TranscriptionStream, _Running] = Requests(
            device, "transcription", self._run, most=MOST_RUNNING, max_queue=max_queue
        )
        self._done: deque[_Running] = deque()
        self._uids = itertools.count()
        self._leave_memory = memory.on_release(self._retry)
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="transcription")
        # Of the device thread
        self._room = CacheRoom(memory, lambda tokens: recording_bytes, on_short)
        self._scheduler = Scheduler(max_batch)
        self._waiting: deque[_Running] = deque()
        self._running: dict[TranscriptionStream, _Running] = {}
        self._encoding: deque[tuple[_Running, Iterator[list[Encoded] | None]]] = deque()
        self._aligning: deque[tuple[_Running, Align]] = deque()
        self._rows: dict[int, _Placed] = {}
        self._events: list[Event] = []
        self._decoded_last = False

    # On the event loop's thread

    def submit(self, request: TranscriptionRequest, open_audio: Open) -> TranscriptionStream:
        """Queues a request; `open_audio` is called on another thread.

        Raises Overloaded, DeviceDead.
        """
        self._requests.require_room()
        stream = TranscriptionStream(self._requests.cancel)
        steps = transcribe(request, self._whisper, open_audio)
        self._requests.submit(stream, _Running(next(self._uids), stream, steps))
        return stream

    def refuse_next(self, error: MlxsrvError) -> None:
        """Ends the request that has waited longest for its turn with `error`."""
        self._requests.refuse_next(error)

    def cancel_all(self, error: MlxsrvError) -> None:
        """Ends every request with `error`."""
        self._requests.cancel_all(error)

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
            for running in [*self._running.values(), *self._waiting]:
                self._drop(running)
            raise

    def _slices(self) -> Iterator[list[Event]]:
        while True:
            self._take_in()
            busy = self._rows or self._encoding or self._aligning
            if busy or self._events:
                if busy:
                    self._slice()
                self._observe()
                events, self._events = self._events, []
                yield events
                continue
            if self._requests.job.rests(lambda: not self._arrived() and self._may_rest()):
                return

    def _arrived(self) -> bool:
        """Whether there is anything to take in."""
        return self._requests.arrived or bool(self._done)

    def _may_rest(self) -> bool:
        """Whether those that wait for a turn can't have it until something else happens."""
        return not self._waiting or len(self._running) >= MOST_RUNNING or self._room.waits

    def _take_in(self) -> None:
        requests = self._requests
        while requests.submitted:
            self._waiting.append(requests.submitted.popleft())
        while requests.cancelled:
            self._leave(requests.cancelled.popleft())
        while self._done:
            self._take_work(self._done.popleft())
        while self._waiting and len(self._running) < MOST_RUNNING:
            if not self._room.take(self._waiting[0].uid, 0):
                break
            self._start(self._waiting.popleft())
        self._observe()

    def _start(self, running: _Running) -> None:
        running.stream.started = True
        self._running[running.stream] = running
        self._resume(running, None)

    def _observe(self) -> None:
        self.meters.queue_length = len(self._waiting)
        self.meters.running = len(self._running)

    def _leave(self, stream: TranscriptionStream) -> None:
        for running in [self._running.get(stream), *self._waiting]:
            if running is not None and running.stream is stream:
                self._drop(running)
                return

    def _slice(self) -> None:
        """Encoding and decoding take turns; alignment goes first, since it is short."""
        if self._aligning:
            self._align()
        elif self._encoding and (self._decoded_last or not self._rows):
            self._decoded_last = False
            self._encode()
        else:
            self._decoded_last = True
            self._step()

    def _resume(self, running: _Running, answer: object) -> None:
        """Sends an answer, and notes what the transcript asks for next."""
        try:
            asked = running.steps.send(answer)
            while isinstance(asked, TranscriptionUpdate):
                self._events.append((running.stream, asked))
                self._count(running, asked)
                asked = running.steps.send(None)
        except StopIteration:
            self._events.append((running.stream, None))
            self._drop(running)
        except Exception as error:
            self._fail(running, error)
        else:
            self._dispatch(running, asked)

    def _count(self, running: _Running, update: TranscriptionUpdate) -> None:
        self.meters.segments += len(update.segments)
        self.meters.seconds += update.seconds - running.seconds
        self.meters.generated_tokens += update.generated - running.generated
        running.seconds, running.generated = update.seconds, update.generated

    def _dispatch(self, running: _Running, asked: Ask) -> None:
        match asked:
            case Work():
                running.work = self._pool.submit(asked.run)
                running.work.add_done_callback(lambda _: self._worked(running))
            case Encode():
                self._encoding.append((running, self._backend.encode_steps([asked.mel])))
            case Align():
                self._aligning.append((running, asked))
            case Decode():
                for row in asked.rows:
                    uid = next(self._uids)
                    running.rows.add(uid)
                    self._rows[uid] = _Placed(running, row, asked.window)
                    self._scheduler.add(uid)

    def _worked(self, running: _Running) -> None:
        """On a thread of the pool, or wherever the work was cancelled."""
        self._done.append(running)
        self._requests.job.wake_if_alive()

    def _take_work(self, running: _Running) -> None:
        work = running.work
        if work is None or running.stream not in self._running:
            return
        running.work = None
        error = work.exception()
        if error is None:
            self._resume(running, work.result())
        else:
            self._fail(running, error)

    def _encode(self) -> None:
        running, steps = self._encoding.popleft()
        try:
            windows = next(steps)
        except Exception as error:
            self._fail(running, error)
            return
        if windows is None:
            self._encoding.appendleft((running, steps))
        else:
            self._resume(running, windows[0])

    def _align(self) -> None:
        running, asked = self._aligning.popleft()
        try:
            scores = self._backend.align(asked.window, asked.tokens)
        except Exception as error:
            self._fail(running, error)
        else:
            self._resume(running, scores)

    def _step(self) -> None:
        try:
            for uid in self._scheduler.admit():
                placed = self._rows[uid]
                self._backend.insert(uid, placed.window, placed.row.tokens)
            logits = self._backend.step()
        except Exception as error:
            log.warning("a step of the decoder failed", exc_info=error)
            self._recover(error)
            return
        for uid, row in logits.items():
            self._scheduler.prove(uid)
            if uid in self._rows:
                self._accept(uid, self._rows[uid], row)

    def _accept(self, uid: int, placed: _Placed, logits: Any) -> None:
        owner = placed.owner
        try:
            for token in placed.row.accept(logits):
                self._backend.extend(uid, token)
        except Exception as error:
            self._fail(owner, error)
            return
        if placed.row.finished:
            self._remove(uid)
            owner.rows.discard(uid)
            if not owner.rows:
                self._resume(owner, None)

    def _recover(self, error: Exception) -> None:
        """Empties the decoder after a failed step; whoever is not to blame goes on later."""
        self._backend.reset()
        for uid in self._scheduler.fail().guilty:
            self._fail(self._rows[uid].owner, error)

    def _fail(self, running: _Running, error: BaseException) -> None:
        """Ends one request, and nothing else."""
        failure = failure_of(error, "transcribed this file")
        if failure is not error:
            log.error("a request failed", exc_info=error)
        self._events.append((running.stream, failure))
        self._drop(running)

    def _drop(self, running: _Running) -> None:
        self._running.pop(running.stream, None)
        if running in self._waiting:
            self._waiting.remove(running)
        if running.work is not None:
            running.work.cancel()
        for uid in running.rows:
            self._remove(uid)
        running.rows.clear()
        self._encoding = deque(one for one in self._encoding if one[0] is not running)
        self._aligning = deque(one for one in self._aligning if one[0] is not running)
        running.steps.close()
        self._room.release(running.uid)

    def _remove(self, uid: int) -> None:
        self._rows.pop(uid, None)
        if self._scheduler.discard(uid):
            self._backend.remove([uid])

    def _close(self) -> None:
        self._leave_memory()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._backend.close()
        free(self._backend.facts.backend)
