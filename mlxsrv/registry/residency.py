"""Which models are in memory: loads them one by one, and takes some out for others."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Collection

from mlxsrv.backends import capacity, load
from mlxsrv.backends.device import Device
from mlxsrv.backends.footprint import Footprint
from mlxsrv.backends.select import Backend
from mlxsrv.config.settings import Settings
from mlxsrv.core.errors import (
    InsufficientMemory,
    MlxsrvError,
    Overloaded,
    TooLargeForMemory,
    Unavailable,
)
from mlxsrv.engines.load import Surroundings, load_model
from mlxsrv.engines.memory import MemoryBudget, size
from mlxsrv.engines.model import (
    ImageModel,
    Model,
    SpeechModel,
    TextModel,
    TranscriptionModel,
)
from mlxsrv.registry import room
from mlxsrv.registry.attaching import attach_all, attached_bytes
from mlxsrv.registry.entry import Entry, LoadProgress
from mlxsrv.registry.signal import Signal
from mlxsrv.registry.wanted import Meters, wanted

LEAST_TOKENS = 512
"""A text model that has no room for so many tokens is of no use."""

ROOM_SECONDS = 120.0
"""How long a load waits for models that answer requests to finish and make room."""

log = logging.getLogger(__name__)


class Residency:
    """Belongs to the event loop; models themselves live on the device thread.

    Loads happen one after the other, in the order they were asked for. One that finds no room
    takes models out, idle ones first, the longest unused first. A model that is busy then gives
    no more leases, answers what it has begun and goes; who asks for it meanwhile queues for its
    next load. So two models that don't fit together take turns, and each turn serves all who
    waited for it.
    """

    def __init__(self, settings: Settings, device: Device, backend: Backend) -> None:
        self.memory = MemoryBudget(int(settings.memory.budget_bytes or 0))
        self.meters = Meters()
        self._settings = settings
        self._device = device
        self._backend: Backend = backend
        self._around: Surroundings | None = None
        self._machine_counts = False
        self._resident: list[Entry] = []
        self._queue: deque[Entry] = deque()
        self._changed = Signal()
        self._loader: asyncio.Task[None] | None = None
        self._relief: asyncio.Task[None] | None = None
        self._sweeper: asyncio.Task[None] | None = None

    @property
    def resident(self) -> Collection[Entry]:
        """The entries whose models are in memory."""
        return self._resident

    async def stop(self) -> None:
        """Ends what runs in the background."""
        tasks = [t for t in (self._loader, self._relief, self._sweeper) if t is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # Leases

    async def acquire(self, entry: Entry) -> Model:
        """Leases a model; loads it first where it is not in memory. `release` ends the lease.

        Raises LoadError and its kin, InsufficientMemory, TooLargeForMemory, Overloaded.
        """
        if entry.model is not None and not entry.leaving:
            entry.leases += 1
            return entry.model
        if len(entry.tickets) > self._settings.api.max_queue:
            raise Overloaded(f"The queue is full: {entry.name} is being loaded", retry_after=1.0)
        return await self._ticket(entry)

    def release(self, entry: Entry) -> None:
        entry.leases -= 1
        entry.last_used = time.monotonic()
        self._changed.fire()

    async def _ticket(self, entry: Entry) -> Model:
        """A caller that goes away does not stop the load that others wait for."""
        ticket: asyncio.Future[Model] = asyncio.get_running_loop().create_future()
        entry.tickets.append(ticket)
        if entry not in self._queue:
            self._queue.append(entry)
        if self._loader is None:
            self._loader = asyncio.create_task(self._serve_queue(), name="load models")
        try:
            return await ticket
        except asyncio.CancelledError:
            if ticket.done() and not ticket.cancelled() and ticket.exception() is None:
                self.release(entry)
            raise

    async def _serve_queue(self) -> None:
        try:
            while self._queue:
                entry = self._queue[0]
                try:
                    await self._bring_in(entry)
                except Exception as error:
                    self._refuse(entry, error)
                finally:
                    self._queue.popleft()
                    entry.loading = False
                self._hand_out(entry)
        finally:
            self._loader = None

    def _refuse(self, entry: Entry, error: Exception) -> None:
        if not isinstance(error, MlxsrvError):
            log.exception("loading %s failed", entry.name)
        for ticket in entry.tickets:
            if not ticket.done():
                ticket.set_exception(error)
        entry.tickets.clear()
        self._changed.fire()

    def _hand_out(self, entry: Entry) -> None:
        """Every ticket becomes a lease at once, so that nothing can take the model out between."""
        for ticket in entry.tickets:
            if entry.model is not None and not ticket.done():
                entry.leases += 1
                ticket.set_result(entry.model)
        entry.tickets.clear()
        entry.last_used = time.monotonic()
        self._changed.fire()

    # Loading

    async def _bring_in(self, entry: Entry) -> None:
        """Loads a model that somebody still waits for."""
        await self._changed.until(lambda: not entry.leaving)
        if entry.model is not None or all(ticket.done() for ticket in entry.tickets):
            return
        entry.loading = True
        around = await self._surroundings()
        footprint = await self._form(entry)
        entry.report(LoadProgress("waiting", 0, footprint.weights))
        await self._make_room(entry, footprint)
        entry.held = footprint.weights
        try:
            log.info("loading %s", entry.name)
            request = wanted(entry, self.meters, self._short_of(entry))
            model = await load_model(request, around)
        except BaseException:
            self._give_back(entry)
            raise
        self.memory.change("weights", model.facts.memory_bytes - entry.held)
        entry.held = model.facts.memory_bytes
        entry.report(LoadProgress("load", footprint.weights, footprint.weights))
        await attach_all(entry, model, self.memory)
        entry.model = model
        if isinstance(model, SpeechModel):
            entry.speech = model.speech
        if isinstance(model, ImageModel):
            entry.image = model.image
        self.meters.loads[entry.name] += 1
        self._resident.append(entry)
        self._note_activations()
        self.settings_changed(entry)

    async def _surroundings(self) -> Surroundings:
        """Asks the device for its memory before the first load."""
        if self._around is None:
            found = await self._device.call(lambda: capacity.capacity(self._backend), kind="load")
            if not self.memory.limit:
                self.memory.limit = found.nbytes
            self._machine_counts = not found.own_memory
            limit = self.memory.limit
            await self._device.call(lambda: capacity.apply(self._backend, limit), kind="load")
            buffers = None if found.buffers is None else found.buffers // 4
            self._around = Surroundings(
                self._settings, self._device, self._backend, self.memory, buffers
            )
        return self._around

    async def _form(self, entry: Entry) -> Footprint:
        """In which form to load a model: staged only where the whole does not fit."""
        whole = await self._footprint(entry)
        entry.staged = whole.staged is not None and not self._may_fit(whole)
        return whole.staged if whole.staged is not None and entry.staged else whole

    async def _footprint(self, entry: Entry) -> Footprint:
        if entry.footprint is None:
            found = entry.checkpoint
            assert found is not None
            bits = entry.settings.quantize
            entry.footprint = await self._device.call(
                lambda: load.footprint(self._backend, found, entry.kind, bits), kind="load"
            )
        return entry.footprint

    # Room

    async def _make_room(self, entry: Entry, need: Footprint) -> None:
        """Reserves the memory for a model's weights, taking others out where it has to.

        Raises TooLargeForMemory, InsufficientMemory.
        """
        what = f"the model {entry.name}"
        total = _least(need)
        if total > self.memory.limit:
            raise self._too_large(what, entry)
        if not self._may_fit(need):
            raise self.memory.refusal(what, total)
        deadline = asyncio.get_running_loop().time() + ROOM_SECONDS
        while not self._reserve(need):
            if await self._device.call(lambda: self.memory.reclaim(total), kind="unload"):
                continue
            victim = room.victim(self._resident)
            if victim is None or not await self._send_off(victim, deadline):
                raise self._refusal(what, need, total)

    def _may_fit(self, need: Footprint) -> bool:
        """Whether there is room for a model once all others are gone that may go."""
        return _least(need) <= self.memory.limit - room.staying_bytes(self._resident)

    def _too_large(self, what: str, entry: Entry) -> TooLargeForMemory:
        whole = entry.footprint
        assert whole is not None
        needs = f"{size(_least(whole))} of memory"
        if whole.staged is not None:
            needs += (
                f", or {size(_least(whole.staged))} with its text encoders loaded for each prompt"
            )
        return TooLargeForMemory(
            f"{what} needs {needs}, and the budget is {size(self.memory.limit)}", param="model"
        )

    def _reserve(self, need: Footprint) -> bool:
        more = max(0, need.activations - self.memory.held()["activations"])
        if need.weights + more + need.cache(LEAST_TOKENS) > self.memory.available:
            return False
        if self._machine_is_full(need):
            return False
        self.memory.change("activations", more)
        self.memory.change("weights", need.weights)
        return True

    def _machine_is_full(self, need: Footprint) -> bool:
        """Where the device's memory is the machine's, other programs may have taken it."""
        return self._machine_counts and need.weights > capacity.free_bytes()

    def _refusal(self, what: str, need: Footprint, total: int) -> MlxsrvError:
        if self._machine_is_full(need):
            return InsufficientMemory(
                f"{what} needs {size(need.weights)} of memory, and this machine has "
                f"{size(capacity.free_bytes())} left"
            )
        return self.memory.refusal(what, total)

    async def _send_off(self, entry: Entry, deadline: float | None) -> bool:
        """Takes a model out once it has answered what it has begun. Returns whether it has."""
        entry.leaving = True
        if not await self._changed.until(lambda: not entry.leases, deadline):
            entry.leaving = False
            self._changed.fire()
            return False
        await self._evict(entry)
        return True

    async def _evict(self, entry: Entry) -> None:
        """Frees a model that nobody uses."""
        entry.leaving = True
        log.info("unloading %s", entry.name)
        model = entry.model
        assert model is not None
        try:
            await model.close()
        finally:
            entry.model = None
            entry.leaving = False
            self._resident.remove(entry)
            self.memory.release("adapters", attached_bytes(entry))
            self._give_back(entry)

    def _give_back(self, entry: Entry) -> None:
        self.memory.release("weights", entry.held)
        entry.held = 0
        self._note_activations()
        self._changed.fire()

    def _note_activations(self) -> None:
        """One model runs at a time, so what the hungriest one computes counts for all."""
        most = max((e.held_as.activations for e in self._resident if e.held_as), default=0)
        self.memory.change("activations", most - self.memory.held()["activations"])

    # Models that leave

    async def take_out(self, entry: Entry, deadline: float | None) -> None:
        """Takes a model out of memory for good: its requests finish first, those that still
        run after `deadline` seconds are ended."""
        loop = asyncio.get_running_loop()
        await self._changed.until(lambda: not entry.tickets and not entry.loading)
        await self._changed.until(lambda: not entry.leaving)
        if entry.model is None:
            return
        until = None if deadline is None else loop.time() + deadline
        entry.leaving = True
        if not await self._changed.until(lambda: not entry.leases, until):
            entry.model.cancel_all(Unavailable(f"The model {entry.name} was unloaded"))
            await self._changed.until(lambda: not entry.leases)
        await self._evict(entry)

    async def unused(self, entry: Entry) -> None:
        """Returns once no request uses a model."""
        await self._changed.until(lambda: not entry.leases)

    def settings_changed(self, entry: Entry) -> None:
        """An entry may now be one that goes when it is idle."""
        if self._sweeper is None and room.ttl_of(entry, self._settings.memory.ttl) is not None:
            self._sweeper = asyncio.create_task(self._sweep(), name="unload idle models")
        self._changed.fire()

    async def _sweep(self) -> None:
        while True:
            default = self._settings.memory.ttl
            now = time.monotonic()
            left = [(room.time_left(entry, default, now), entry) for entry in self._resident]
            due = [entry for seconds, entry in left if seconds is not None and seconds <= 0]
            for entry in due:
                await self._evict(entry)
            if not due:
                await self._changed.wait(min((s for s, _ in left if s is not None), default=None))

    # Room for the caches of requests

    def _short_of(self, entry: Entry) -> Callable[[int], None]:
        """What the device thread calls when a request finds no room for its cache."""
        loop = asyncio.get_running_loop()

        def short(nbytes: int) -> None:
            loop.call_soon_threadsafe(self._relieve, entry, nbytes)

        return short

    def _relieve(self, entry: Entry, nbytes: int) -> None:
        if self._relief is None or self._relief.done():
            self._relief = asyncio.create_task(self._make_cache_room(entry, nbytes))

    async def _make_cache_room(self, entry: Entry, nbytes: int) -> None:
        """Takes idle models out for a request's cache; refuses it where that is no use."""
        while nbytes > self.memory.available:
            others = [other for other in self._resident if other is not entry]
            victim = room.victim(others, idle_only=True)
            if victim is None:
                break
            await self._evict(victim)
        model = entry.model
        if nbytes <= self.memory.available or self.memory.held()["cache"] or model is None:
            return
        if isinstance(model, TextModel | TranscriptionModel | ImageModel):
            what = "this picture" if isinstance(model, ImageModel) else "this request's cache"
            model.engine.refuse_next(self.memory.refusal(what, nbytes))


def _least(need: Footprint) -> int:
    """Bytes with which a model is of some use."""
    return need.weights + need.activations + need.cache(LEAST_TOKENS)
