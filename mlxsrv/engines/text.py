"""The text engine: one model's continuous batch, from requests to deltas.

`submit` is called on the event loop's thread; everything that touches the batch happens in
`_run`, a job on the device thread whose every slice is one step of the batch.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace

from mlxsrv.backends.adapter import Adapter
from mlxsrv.backends.base import TextBackend
from mlxsrv.backends.device import Device
from mlxsrv.backends.load import free
from mlxsrv.core.errors import (
    DeviceDead,
    MlxsrvError,
    Overloaded,
    TooLargeForMemory,
)
from mlxsrv.core.meters import TextMeters
from mlxsrv.core.text import Kept, Sequence, TextDelta, TextRequest, TokenLogprob, TokenOut
from mlxsrv.engines.cache_room import CacheRoom
from mlxsrv.engines.failures import failure_of
from mlxsrv.engines.generation import Generation, TokenDecoder
from mlxsrv.engines.mailbox import Mailbox
from mlxsrv.engines.memory import MemoryBudget, size
from mlxsrv.engines.prefix_cache import PrefixCache
from mlxsrv.engines.scheduler import Scheduler
from mlxsrv.engines.waking import WakingJob

DEVICE_WEIGHT = 4.0
"""Text goes first: it gets four times the device of any other kind of work."""

GOLDEN_STEP = 0x9E3779B97F4A7C15
"""Spreads the seeds of one request's choices (2^64 over the golden ratio, as in SplitMix64)."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Timing:
    """When things happened to a request, in seconds of `time.perf_counter`."""

    submitted: float
    started: float | None = None
    first_token: float | None = None
    last_token: float | None = None


class TextStream:
    """The deltas of one request, in order, for one reader. Cancel it when done early."""

    def __init__(self, request: TextRequest, cancel: Callable[[TextStream], None]) -> None:
        self.request = request
        self.timing = Timing(submitted=time.perf_counter())
        self.mailbox: Mailbox[TextDelta] = Mailbox()
        self.live = len(request.prompts) * request.n
        self.cached_tokens = 0
        self._cancel = cancel

    @property
    def prompt_tokens(self) -> int:
        return sum(map(len, self.request.prompts))

    def __aiter__(self) -> AsyncIterator[list[TextDelta]]:
        return self.mailbox.__aiter__()

    def cancel(self) -> None:
        """Frees what the request holds before the next step; does nothing once it has ended."""
        if self.live:
            self.live = 0
            with contextlib.suppress(DeviceDead):  # then there is nothing left to free
                self._cancel(self)


@dataclass(slots=True)
class _Running:
    """One sequence known to the engine."""

    sequence: Sequence
    generation: Generation
    stream: TextStream
    last_token: float | None = None


Event = tuple[TextStream, TextDelta | Exception]


@dataclass(slots=True)
class _Inbox:
    """What other threads ask of the engine; deques append and pop atomically."""

    submitted: deque[tuple[TextStream, list[_Running]]] = field(default_factory=deque)
    cancelled: deque[TextStream] = field(default_factory=deque)


class TextEngine:
    """Serves one text model."""

    def __init__(
        self,
        device: Device,
        backend: TextBackend,
        decoder: Callable[[TextRequest], TokenDecoder],
        *,
        end_ids: frozenset[int],
        context_length: int,
        max_batch: int,
        max_queue: int,
        memory: MemoryBudget,
        cache_bytes: Callable[[int], int] = lambda tokens: 0,
        on_short: Callable[[int], None] = lambda nbytes: None,
        prefix_cache_bytes: int = 0,
        prefix_cache_arrays: int | None = None,
        meters: TextMeters | None = None,
    ) -> None:
        """`cache_bytes` says what a sequence of so many tokens takes; `on_short` is called on
        the device thread with what is missing when `memory` has no room for the next one."""
        self.meters = meters or TextMeters()
        self._device = device
        self._backend = backend
        self._decoder = decoder
        self._end_ids = end_ids
        self._context_length = context_length
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._uids = itertools.count()
        self._scheduler = Scheduler(max_batch)
        self._memory = memory
        self._cache_bytes = cache_bytes
        self._room = CacheRoom(memory, cache_bytes, on_short)
        self._prefixes = PrefixCache(prefix_cache_bytes, max_arrays=prefix_cache_arrays)
        self._keeps = prefix_cache_bytes > 0
        self._sequences: dict[int, _Running] = {}
        self._inbox = _Inbox()
        self._streams: set[TextStream] = set()
        self._job = WakingJob(
            device,
            "text",
            self._run,
            on_item=self._deliver,
            on_failure=self._failed,
            weight=DEVICE_WEIGHT,
            can_wait=_can_wait,
        )
        self._blocked = False
        self._leave_memory = (memory.on_release(self._retry), memory.on_reclaim(self._reclaim))

    # On the event loop's thread

    def submit(self, request: TextRequest) -> TextStream:
        """Queues a request. Raises Overloaded, TooLargeForMemory, DeviceDead."""
        waiting = [stream for stream in self._streams if stream.timing.started is None]
        busy = sum(stream.live for stream in self._streams) - sum(s.live for s in waiting)
        if len(waiting) >= self._max_queue + max(0, self._max_batch - busy):
            raise Overloaded(
                f"The queue is full: {self._max_queue} requests are waiting", retry_after=1.0
            )
        stream = TextStream(request, self._cancel)
        sequences = self._sequences_of(stream)
        self._require_possible(sequences)
        self._streams.add(stream)
        self._inbox.submitted.append((stream, sequences))
        self._job.wake()
        return stream

    def _require_possible(self, sequences: list[_Running]) -> None:
        largest = max(running.sequence.most_tokens for running in sequences)
        need = self._cache_bytes(largest)
        taken = self._backend.facts.memory_bytes + self._memory.held()["activations"]
        most = self._memory.limit - taken
        if need > most:
            raise TooLargeForMemory(
                f"prompt and answer of up to {largest} tokens need {size(need)} of cache, and the "
                f"memory budget leaves {size(most)}: shorten the prompt or lower max_tokens",
                param="max_tokens",
            )

    def _sequences_of(self, stream: TextStream) -> list[_Running]:
        request = stream.request
        seed = secrets.randbits(63) if request.seed is None else request.seed
        choices = len(request.prompts) * request.n
        return [
            _Running(
                self._sequence(request, *divmod(choice, request.n), seed),
                Generation(choice, request, self._decoder(request)),
                stream,
            )
            for choice in range(choices)
        ]

    def _sequence(self, request: TextRequest, place: int, repeat: int, seed: int) -> Sequence:
        """The `repeat`-th choice for the prompt at `place`; the context bounds its length."""
        prompt = request.prompts[place]
        own_seed = (seed + repeat * GOLDEN_STEP) % 2**64
        return Sequence(
            uid=next(self._uids),
            prompt=prompt,
            max_tokens=min(request.max_tokens, self._context_length - len(prompt)),
            sampling=replace(request.sampling, seed=own_seed),
            stop_ids=frozenset() if request.ignore_eos else self._end_ids,
            top_logprobs=request.top_logprobs,
            keep=self._keeps,
            adapter=request.adapter,
        )

    @property
    def prefix_cache_bytes(self) -> int:
        """Memory that kept prompts take now."""
        return self._prefixes.nbytes

    def _cancel(self, stream: TextStream) -> None:
        self._streams.discard(stream)
        self._inbox.cancelled.append(stream)
        self._job.wake()

    def refuse_next(self, error: MlxsrvError) -> None:
        """Ends the request that has waited longest for its turn with `error`."""
        waiting = [stream for stream in self._streams if stream.timing.started is None]
        if waiting:
            first = min(waiting, key=lambda stream: stream.timing.submitted)
            first.cancel()
            first.mailbox.end(error)

    def cancel_all(self, error: MlxsrvError) -> None:
        """Ends every request with `error`."""
        for stream in list(self._streams):
            stream.cancel()
            stream.mailbox.end(error)

    async def score(
        self, ids: tuple[int, ...], top: int, adapter: str | None = None
    ) -> list[TokenLogprob]:
        """Log probabilities of `ids[1:]`; see `TextBackend.score`."""
        out: list[TokenLogprob] = []
        async for chunk in self._device.stream(
            "score", lambda: self._backend.score(ids, top, adapter)
        ):
            out.extend(chunk)
        self.meters.prompt_tokens += len(ids)
        return out

    async def add_adapter(self, name: str, adapter: Adapter) -> None:
        """Makes a LoRA adapter known. Raises InvalidRequest where it does not fit."""
        await self._device.call(lambda: self._backend.add_adapter(name, adapter), kind="load")

    async def remove_adapter(self, name: str) -> None:
        """Forgets an adapter that no request uses, and the prompts kept with it."""
        await self._device.call(lambda: self._forget(name), kind="unload")

    async def close(self) -> None:
        """Frees the model, which no request uses any more."""
        await self._device.call(self._close, kind="unload")

    def _retry(self) -> None:
        """Memory was given back, on whatever thread: those that wait for some try again."""
        if self._sequences:
            self._job.wake_if_alive()

    def _deliver(self, events: list[Event]) -> None:
        for stream, event in events:
            if isinstance(event, Exception):
                stream.live = 0
                stream.mailbox.end(event)
            else:
                stream.mailbox.put(event)
                if event.finish is not None:
                    stream.live -= 1
                if stream.live == 0:
                    stream.mailbox.end()
            if stream.live <= 0:
                self._streams.discard(stream)

    def _failed(self, error: BaseException) -> None:
        """With the job all requests have ended."""
        self._inbox = _Inbox()
        for stream in self._streams:
            stream.live = 0
            stream.mailbox.end(error)
        self._streams.clear()

    # On the device thread

    def _run(self) -> Iterator[list[Event]]:
        try:
            yield from self._steps()
        except BaseException:
            for uid in list(self._sequences):
                self._drop(uid)
            raise

    def _steps(self) -> Iterator[list[Event]]:
        while True:
            self._take_in()
            if self._sequences:
                yield self._step()
                if self._scheduler.running:
                    continue
            if self._job.rests(
                lambda: not (self._inbox.submitted or self._inbox.cancelled) and self._may_rest()
            ):
                return

    def _may_rest(self) -> bool:
        """Whether nothing can be done until a request comes or memory is given back."""
        return not self._sequences or (self._blocked and self._room.waits)

    def _take_in(self) -> None:
        while self._inbox.submitted:
            _, sequences = self._inbox.submitted.popleft()
            for running in sequences:
                self._sequences[running.sequence.uid] = running
                self._scheduler.add(running.sequence.uid)
        while self._inbox.cancelled:
            self._drop_all_of(self._inbox.cancelled.popleft())
        self._observe_queue()

    def _observe_queue(self) -> None:
        self.meters.queue_length = self._scheduler.waiting
        self.meters.running = self._scheduler.running

    def _step(self) -> list[Event]:
        events: list[Event] = []
        try:
            self._admit()
            outs = self._backend.step()
        except Exception as error:
            log.warning("a step of the batch failed", exc_info=error)
            self._recover(error, events)
        else:
            now = time.perf_counter()
            for out in outs:
                self._accept(out, now, events)
        self._observe_queue()
        return events

    def _admit(self) -> None:
        admitted = self._scheduler.admit(self._has_room)
        self._blocked = not self._scheduler.running
        for uid in admitted:
            running = self._sequences[uid]
            sequence = replace(running.sequence, generated=tuple(running.generation.tokens))
            prefix = self._prefixes.find(sequence.prompt + sequence.generated, sequence.adapter)
            if not sequence.generated:
                self._started(running, prefix.length if prefix is not None else 0)
            self._backend.insert(sequence, prefix)

    def _has_room(self, uid: int) -> bool:
        return self._room.take(uid, self._sequences[uid].sequence.most_tokens)

    def _started(self, running: _Running, cached: int) -> None:
        stream = running.stream
        if stream.timing.started is None:
            stream.timing.started = time.perf_counter()
        if running.generation.choice % stream.request.n == 0:  # a prompt counts once
            stream.cached_tokens += cached
        self.meters.prompt_tokens += len(running.sequence.prompt)
        self.meters.cached_tokens += cached

    def _accept(self, out: TokenOut, now: float, events: list[Event]) -> None:
        running = self._sequences.get(out.uid)
        if running is None:
            return
        self._scheduler.prove(out.uid)
        if out.error is not None:
            self._fail(running, out.error, events)
            return
        try:
            delta = running.generation.accept(out)
        except Exception as error:
            self._fail(running, error, events)
            return
        self._time(running, now)
        if out.kept is not None:
            self._put(out.kept)
        if delta is None:
            return
        events.append((running.stream, delta))
        if delta.finish is not None:
            self._drop(out.uid)

    def _time(self, running: _Running, now: float) -> None:
        self.meters.generated_tokens += 1
        timing = running.stream.timing
        timing.last_token = now
        if running.last_token is not None:
            self.meters.inter_token.observe(now - running.last_token)
        running.last_token = now
        if timing.first_token is None:
            timing.first_token = now
            self.meters.time_to_first_token.observe(now - timing.submitted)

    def _recover(self, error: Exception, events: list[Event]) -> None:
        """Empties the batch after a failed step; whoever is not to blame runs again."""
        verdict = self._scheduler.fail()
        for uid in verdict.guilty:
            self._fail(self._sequences[uid], error, events)
        self._backend.reset()

    def _fail(self, running: _Running, error: Exception, events: list[Event]) -> None:
        """One failed choice ends its whole request, and nothing else."""
        log.error("a request failed", exc_info=error)
        events.append((running.stream, failure_of(error, "answered this request")))
        self._drop_all_of(running.stream)

    def _drop_all_of(self, stream: TextStream) -> None:
        for uid in [uid for uid, r in self._sequences.items() if r.stream is stream]:
            self._drop(uid)

    def _drop(self, uid: int) -> None:
        del self._sequences[uid]
        if self._scheduler.discard(uid):
            kept = self._backend.keep(uid) if self._keeps else None
            self._backend.remove([uid])
            self._room.release(uid)
            if kept is not None:
                self._put(kept)
        else:
            self._room.release(uid)

    def _put(self, kept: Kept) -> None:
        """Keeps a prefix where there is memory for it, or for it in place of others."""
        missing = kept.nbytes - self._memory.available
        if missing > 0:
            missing -= self._reclaim(missing)
        if missing <= 0:
            before = self._prefixes.nbytes
            self._prefixes.put(kept)
            self._memory.change("prefix_cache", self._prefixes.nbytes - before)

    def _reclaim(self, nbytes: int) -> int:
        freed = self._prefixes.reclaim(nbytes)
        if freed:
            self._memory.release("prefix_cache", freed)
        return freed

    def _forget(self, adapter: str) -> None:
        self._backend.remove_adapter(adapter)
        before = self._prefixes.nbytes
        self._prefixes.forget(adapter)
        self._memory.release("prefix_cache", before - self._prefixes.nbytes)

    def _close(self) -> None:
        for leave in self._leave_memory:
            leave()
        self._reclaim(self._prefixes.nbytes)
        self._backend.close()
        free(self._backend.facts.backend)


def _can_wait(events: list[Event]) -> bool:
    """Whether these are but the middles of answers: beginnings and ends are sent at once."""
    return all(
        isinstance(event, TextDelta) and event.finish is None and event.generated > 1
        for _, event in events
    )
