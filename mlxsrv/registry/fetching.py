"""Models that callers name and that are not known yet: found, downloaded, added to the list."""

from __future__ import annotations

import asyncio

from mlxsrv.backends import builtin, hub
from mlxsrv.backends.checkpoint import Checkpoint
from mlxsrv.backends.select import Backend
from mlxsrv.config.settings import HubSettings, ModelSettings
from mlxsrv.core.errors import ShuttingDown
from mlxsrv.registry import finding
from mlxsrv.registry.entry import Entry, LoadProgress, LoadRequest, OnProgress
from mlxsrv.registry.naming import Catalogue

DEMO_NOTE = "A small demonstration model, trained for this server; it knows very little."


class Fetcher:
    """Belongs to the event loop; looking and downloading happen on threads."""

    def __init__(self, catalogue: Catalogue, backend: Backend, bounds: HubSettings) -> None:
        self._catalogue = catalogue
        self._backend: Backend = backend
        self._bounds = bounds
        self._fetching: dict[tuple[str, str], asyncio.Task[Entry]] = {}
        self._stopping = False

    def stop(self) -> None:
        """Ends downloads at their next block, or the process would not end before them."""
        self._stopping = True

    async def fetched(self, wanted: LoadRequest, on_progress: OnProgress | None) -> Entry:
        """The entry of a model that is not known yet; those who ask at once share one fetch."""
        name = wanted.name or wanted.model
        key = (name, wanted.model)
        task = self._fetching.get(key)
        if task is None:
            self._catalogue.require_free(name)
            task = asyncio.create_task(self._fetch(name, wanted, on_progress))
            self._fetching[key] = task
            task.add_done_callback(lambda _: self._fetching.pop(key))
        return await asyncio.shield(task)

    async def _fetch(self, name: str, wanted: LoadRequest, on_progress: OnProgress | None) -> Entry:
        settings = finding.with_kind(
            ModelSettings(path=wanted.model, type=wanted.kind, ttl=wanted.ttl, pin=bool(wanted.pin))
        )
        loop = asyncio.get_running_loop()

        def report(progress: hub.Progress) -> None:
            if self._stopping:
                raise ShuttingDown("The server is shutting down")
            if on_progress is not None:
                step = LoadProgress("download", progress.done, progress.total)
                loop.call_soon_threadsafe(on_progress, step)

        found = await asyncio.to_thread(
            finding.requested, settings, self._backend, self._bounds, report
        )
        entry = Entry(name, settings, found, note=note_on(found))
        finding.require_served(found, entry.kind)
        self._catalogue.add(entry)
        return entry


def note_on(found: Checkpoint) -> str | None:
    """What callers are told of a model beside its numbers."""
    return DEMO_NOTE if found.folder in builtin.demo_models().values() else None
