"""The speech engine: texts that are spoken in turns by one model.

`submit` is called on the event loop's thread. `_run` is a job on the device thread, whose every
slice is one of the backend's. Between two pieces of text another request gets its turn, the one
whose reader has the least left to hear: so a newcomer waits for a sentence, not for a book.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlxsrv.backends.base import SpeechBackend
from mlxsrv.backends.device import Device
from mlxsrv.backends.load import free
from mlxsrv.core.errors import MlxsrvError
from mlxsrv.core.meters import SpeechMeters
from mlxsrv.core.speech import SpeechRequest
from mlxsrv.engines.failures import failure_of
from mlxsrv.engines.requests import Requests
from mlxsrv.engines.speech_stream import SpeechStream
from mlxsrv.engines.spoken import spoken

AHEAD_SECONDS = 10.0
"""Of sound that waits for its reader, after which no further piece is begun for it."""

MOST_RUNNING = 8
"""Texts that are taken besides those that wait."""

log = logging.getLogger(__name__)

Samples = NDArray[np.float32]
Event = tuple[SpeechStream, Samples | Exception | None]
"""A block, what ended a text, or None for its end."""


@dataclass(slots=True, eq=False)
class _Running:
    """A text known to the device thread; `turn` says when it was last spoken."""

    stream: SpeechStream
    sound: Generator[Samples | None, None, None]
    turn: int = 0


class SpeechEngine:
    """Serves one model that speaks."""

    def __init__(
        self,
        device: Device,
        backend: SpeechBackend,
        *,
        max_queue: int,
        meters: SpeechMeters | None = None,
    ) -> None:
        self.meters = meters or SpeechMeters()
        self._device = device
        self._backend = backend
        self._most_ahead = round(AHEAD_SECONDS * backend.sample_rate)
        self._requests: Requests[SpeechStream, _Running] = Requests(
            device, "speech", self._run, most=MOST_RUNNING, max_queue=max_queue
        )
        # Of the device thread
        self._running: dict[SpeechStream, _Running] = {}
        self._speaking: _Running | None = None
        self._turns = 0

    # On the event loop's thread

    def submit(self, request: SpeechRequest) -> SpeechStream:
        """Queues a text. Raises Overloaded, DeviceDead."""
        self._requests.require_room()
        stream = SpeechStream(self._requests.cancel, self._requests.job.wake_if_alive)
        self._requests.submit(stream, _Running(stream, spoken(self._backend, request)))
        return stream

    def cancel_all(self, error: MlxsrvError) -> None:
        """Ends every request with `error`."""
        self._requests.cancel_all(error)

    async def close(self) -> None:
        """Frees the model, which no request uses any more."""
        await self._device.call(self._close, kind="unload")

    # On the device thread

    def _run(self) -> Iterator[list[Event]]:
        try:
            yield from self._slices()
        except BaseException:
            for running in list(self._running.values()):
                self._drop(running)
            raise

    def _slices(self) -> Iterator[list[Event]]:
        while True:
            self._take_in()
            running = self._speaking or self._next()
            if running is not None:
                yield self._slice(running)
                continue
            if self._requests.job.rests(
                lambda: not self._requests.arrived and self._next() is None
            ):
                return

    def _take_in(self) -> None:
        requests = self._requests
        while requests.submitted:
            running = requests.submitted.popleft()
            self._running[running.stream] = running
        while requests.cancelled:
            gone = self._running.get(requests.cancelled.popleft())
            if gone is not None:
                self._drop(gone)
        self._observe()

    def _observe(self) -> None:
        waiting = sum(not running.turn for running in self._running.values())
        self.meters.queue_length = waiting
        self.meters.running = len(self._running) - waiting

    def _next(self) -> _Running | None:
        """Whose reader has least to hear, and of those who has waited longest."""
        able = [one for one in self._running.values() if one.stream.ahead < self._most_ahead]
        return min(able, key=lambda one: (one.stream.ahead, one.turn), default=None)

    def _slice(self, running: _Running) -> list[Event]:
        if running is not self._speaking:
            self._turns += 1
            running.turn, self._speaking = self._turns, running
        try:
            samples = next(running.sound)
        except StopIteration:
            self._drop(running)
            return [(running.stream, None)]
        except Exception as error:
            return [(running.stream, self._fail(running, error))]
        if samples is None:
            self._speaking = None
            return []
        running.stream.made += len(samples)
        self.meters.seconds += len(samples) / self._backend.sample_rate
        return [(running.stream, samples)] if len(samples) else []

    def _fail(self, running: _Running, error: Exception) -> MlxsrvError:
        """Ends one request, and nothing else."""
        self._drop(running)
        failure = failure_of(error, "spoke this text")
        if failure is not error:
            log.error("a request failed", exc_info=error)
        return failure

    def _drop(self, running: _Running) -> None:
        self._running.pop(running.stream, None)
        if self._speaking is running:
            self._speaking = None
        running.sound.close()
        self._observe()

    def _close(self) -> None:
        self._backend.close()
        free(self._backend.facts.backend)
