"""The registry as the rest of the server sees it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Collection, Coroutine, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal, TypeVar

from mlxsrv.backends import builtin, hub
from mlxsrv.backends.device import Device
from mlxsrv.backends.select import Choice
from mlxsrv.config.settings import ModelSettings, Settings
from mlxsrv.config.sources import is_hub_id
from mlxsrv.core.errors import (
    InvalidRequest,
    LoadError,
    MlxsrvError,
    ModelNotFound,
    Unavailable,
)
from mlxsrv.core.kinds import SERVED_KINDS, TEXT_KINDS, Kind
from mlxsrv.core.meters import (
    EncoderMeters,
    ImageMeters,
    SpeechMeters,
    TextMeters,
    TranscriptionMeters,
)
from mlxsrv.engines.context import context_of
from mlxsrv.engines.model import ImageModel, Model, TextModel
from mlxsrv.registry import finding
from mlxsrv.registry.adapters import Adapters
from mlxsrv.registry.entry import (
    AdapterInfo,
    Entry,
    LoadRequest,
    MemoryState,
    ModelInfo,
    OnProgress,
)
from mlxsrv.registry.fetching import Fetcher, note_on
from mlxsrv.registry.naming import Catalogue, default_name, same_family
from mlxsrv.registry.residency import Residency

ADAPTED_KINDS = TEXT_KINDS | {Kind.IMAGE}
"""Kinds that take LoRA adapters."""

M = TypeVar("M")
T = TypeVar("T")

log = logging.getLogger(__name__)


class Registry:
    """Belongs to the event loop's thread; models themselves live on the device thread."""

    def __init__(self, settings: Settings, device: Device, choice: Choice) -> None:
        self._settings = settings
        self._choice = choice
        self._catalogue = Catalogue()
        self._residency = Residency(settings, device, choice.name)
        self._adapters = Adapters(self._catalogue, self._residency, settings.hub)
        self._fetcher = Fetcher(self._catalogue, choice.name, settings.hub)
        self._begun: set[asyncio.Task[object]] = set()
        self._found = asyncio.Event()
        self._ready = False

    async def start(self, report: hub.Report | None = None) -> None:
        """Finds every configured model and loads those that are to be loaded at start.

        What the configuration names may be downloaded; `report` hears of the progress.
        Raises LoadError and its kin.
        """
        for name, settings in expand(self._settings.api.models).items():
            self._catalogue.entries[name] = await self._configured(name, settings, report)
        self._found.set()
        for entry in self._catalogue:
            if entry.kind not in SERVED_KINDS:
                log.warning("no route serves models of type %s yet: %s", entry.kind, entry.name)
            elif entry.settings.preload:
                await self._residency.acquire(entry)
                self._residency.release(entry)
        self._ready = True

    async def _configured(
        self, name: str, settings: ModelSettings, report: hub.Report | None
    ) -> Entry:
        settings = finding.with_kind(settings)
        found = await asyncio.to_thread(finding.configured, settings, self._choice.name, report)
        entry = Entry(name, settings, found, note=note_on(found))
        if settings.adapter is not None:
            entry.own_adapter = await asyncio.to_thread(
                finding.adapter_folder, settings.adapter, None
            )
        return entry

    async def stop(self) -> None:
        """Ends what runs in the background."""
        self._fetcher.stop()
        for task in self._begun:
            task.cancel()
        await asyncio.gather(*self._begun, return_exceptions=True)
        await self._residency.stop()

    # What there is

    def state(self) -> Literal["loading", "ready"]:
        return "ready" if self._ready else "loading"

    def models_by_state(self) -> Mapping[str, int]:
        return Counter(entry.state for entry in self._catalogue)

    def memory(self) -> MemoryState:
        budget = self._residency.memory
        return MemoryState(budget.limit, budget.held(), max(0, budget.available))

    def text_meters(self) -> list[TextMeters]:
        """The meters of every text model that was ever in memory."""
        return list(self._residency.meters.text.values())

    def encoder_meters(self) -> list[EncoderMeters]:
        """The meters of every embedding and rerank model that was ever in memory."""
        return list(self._residency.meters.encoder.values())

    def transcription_meters(self) -> list[TranscriptionMeters]:
        """The meters of every Whisper model that was ever in memory."""
        return list(self._residency.meters.transcription.values())

    def speech_meters(self) -> list[SpeechMeters]:
        """The meters of every speaking model that was ever in memory."""
        return list(self._residency.meters.speech.values())

    def image_meters(self) -> list[ImageMeters]:
        """The meters of every image model that was ever in memory."""
        return list(self._residency.meters.image.values())

    def loads(self) -> Mapping[str, int]:
        """How often each model was loaded."""
        return self._residency.meters.loads

    def list(self, kind: Kind | None = None) -> list[ModelInfo]:
        return [self._info(e) for e in self._catalogue if kind is None or same_family(e.kind, kind)]

    def info(self, name: str) -> ModelInfo:
        """Raises ModelNotFound."""
        return self._info(self._catalogue.named(name))

    def _info(self, entry: Entry) -> ModelInfo:
        owner = entry.base or entry
        found, model = owner.checkpoint, owner.model
        weights = entry.adapter.nbytes if entry.adapter is not None else owner.held
        idle = model is not None and not entry.leases
        return ModelInfo(
            name=entry.name,
            kind=entry.kind,
            state=entry.state,
            aliases=entry.settings.aliases,
            created=found.created if found else 0,
            memory_bytes=weights if model is not None else None,
            context_length=_context_length(entry),
            backend=self._choice.name if model is not None else None,
            quantization=_quantization(owner),
            description=entry.note,
            base=entry.base.name if entry.base is not None else None,
            adapter=str(entry.adapter.folder) if entry.adapter is not None else None,
            ttl=owner.settings.ttl,
            pin=owner.settings.pin,
            leases=entry.leases,
            idle_seconds=time.monotonic() - entry.last_used if idle else None,
            speech=owner.speech,
            image=owner.image,
        )

    # Using a model

    async def resolve(
        self, name: str | None, kinds: Collection[Kind], *, prefer: Kind | None = None
    ) -> str:
        """The served name that a request means; see `Catalogue.choose`.

        Where requests may download, a hub id that is not served yet is fetched and added.
        While the server starts, this waits until it is known what there is. Raises
        KindNotLoaded and ModelNotFound.
        """
        await self._found.wait()
        downloads = self._settings.hub.allow_download
        if downloads and name and is_hub_id(name) and self._catalogue.find(name) is None:
            await self._fetch_for(name, kinds)
        return self._catalogue.choose(name, kinds, prefer).name

    async def _fetch_for(self, name: str, kinds: Collection[Kind]) -> None:
        """A model that can't be had, or can't do what is asked for, is as good as none."""
        try:
            entry = await self._fetcher.fetched(LoadRequest(name), None)
        except MlxsrvError as error:
            raise ModelNotFound(error.message, param="model") from error
        if entry.kind not in kinds:
            raise ModelNotFound(
                f"{name} is of type {entry.kind}, which can't do this", param="model"
            )

    @contextlib.asynccontextmanager
    async def lease(self, name: str, model: type[M]) -> AsyncIterator[M]:
        """Leases a model by its served name; loads it first where it is not in memory.

        Callers that come while it loads wait for the one load. Raises LoadError,
        InsufficientMemory, Overloaded.
        """
        entry = self._catalogue.named(name)
        owner = entry.base or entry
        entry.leases += entry is not owner
        try:
            leased = await self._residency.acquire(owner)
            try:
                yield _as(model, _view(entry, leased))
            finally:
                self._residency.release(owner)
        finally:
            entry.leases -= entry is not owner
            entry.last_used = time.monotonic()

    def cancel_all(self, error: MlxsrvError) -> None:
        """Ends every request on every model with `error`."""
        for entry in self._residency.resident:
            if entry.model is not None:
                entry.model.cancel_all(error)

    # Models that come and go. What a caller begins goes on when the caller leaves.

    async def _to_its_end(self, work: Coroutine[object, object, T]) -> T:
        task = asyncio.create_task(work)
        self._begun.add(task)
        task.add_done_callback(self._begun.discard)
        return await asyncio.shield(task)

    async def load(self, wanted: LoadRequest, on_progress: OnProgress | None = None) -> ModelInfo:
        """Brings a model into memory, and into the list where it is not there yet.

        Loading a model that is in memory sets its `ttl` and `pin`. One that can't be loaded
        leaves all as it was. Raises InvalidRequest, ModelNotFound, Conflict, LoadError,
        InsufficientMemory.
        """
        return await self._to_its_end(self._load(wanted, on_progress))

    async def _load(self, wanted: LoadRequest, on_progress: OnProgress | None) -> ModelInfo:
        await self._found.wait()
        known = self._catalogue.find(wanted.model) or self._catalogue.made_of(wanted.model)
        if known is not None:
            entry = known
        else:
            name = wanted.name or default_name(wanted.model)
            entry = await self._fetcher.fetched(replace(wanted, name=name), on_progress)
        owner = entry.base or entry
        if known is not None:
            self._apply(owner, wanted)
        with _listening(owner, on_progress):
            try:
                await self._residency.acquire(owner)
            except MlxsrvError:
                if known is None:
                    self._catalogue.remove(owner)
                raise
        self._residency.release(owner)
        return self._info(entry)

    def _apply(self, entry: Entry, wanted: LoadRequest) -> None:
        """What a request to load says of a model that is known."""
        if wanted.kind is not None and wanted.kind != entry.kind:
            raise InvalidRequest(f"kind: {entry.name} is served as {entry.kind}", param="kind")
        changes: dict[str, object] = {}
        if wanted.name is not None and self._catalogue.find(wanted.name) is not entry:
            self._catalogue.require_free(wanted.name)
            changes["aliases"] = (*entry.settings.aliases, wanted.name)
        if wanted.ttl is not None:
            changes["ttl"] = wanted.ttl
        if wanted.pin is not None:
            changes["pin"] = wanted.pin
        entry.settings = entry.settings.model_copy(update=changes)
        self._residency.settings_changed(entry)

    async def unload(self, name: str, *, deadline: float | None = None) -> ModelInfo:
        """Takes a model, or an adapter, out of memory and off the list.

        Its requests finish first; those that run after `deadline` seconds are ended. Raises
        ModelNotFound.
        """
        entry = self._catalogue.named(name)
        if entry.base is not None:
            await self._to_its_end(self._adapters.unload(entry))
            return self._info(entry)
        self._catalogue.remove(entry)
        await self._to_its_end(self._residency.take_out(entry, deadline))
        return self._info(entry)

    async def load_adapter(
        self, model: str | None, name: str, path: str, scale: float | None = None
    ) -> AdapterInfo:
        """Adds a LoRA adapter beside its base, under a name of its own; see `Adapters.load`."""
        served = await self.resolve(model, ADAPTED_KINDS, prefer=Kind.CHAT)
        base = self._catalogue.named(served)
        return await self._to_its_end(self._adapters.load(base, name, path, scale))

    async def unload_adapter(self, name: str, model: str | None = None) -> AdapterInfo:
        """Forgets an adapter once its requests have finished; see `Adapters.unload`."""
        entry = self._catalogue.named(name, param="lora_name")
        base = None if model is None else self._catalogue.named(model)
        return await self._to_its_end(self._adapters.unload(entry, base))

    def adapters(self) -> Sequence[AdapterInfo]:
        return self._adapters.list()


def expand(models: Mapping[str, ModelSettings]) -> dict[str, ModelSettings]:
    """The configured models, or the built-in demo set where there are none."""
    if models:
        return dict(models)
    entries = builtin.demo_set()
    if not entries:
        raise LoadError("no model was named, and the built-in demo models are not installed")
    return {name: ModelSettings.model_validate(entry) for name, entry in entries.items()}


def _context_length(entry: Entry) -> int | None:
    """Sound and pictures have none."""
    owner = entry.base or entry
    if owner.checkpoint is None or entry.kind in {Kind.STT, Kind.TTS, Kind.IMAGE}:
        return None
    return context_of(owner.settings, owner.checkpoint)


def _quantization(entry: Entry) -> str | None:
    """As it is stored, or as it is packed while it is loaded."""
    stored = entry.checkpoint.quantization if entry.checkpoint is not None else None
    bits = entry.settings.quantize
    return stored if stored is not None or bits is None else f"{bits}-bit"


def _view(entry: Entry, model: Model) -> Model:
    """The model as a request for `entry` sees it: an adapter is its base with itself added."""
    if entry.base is None or not isinstance(model, TextModel | ImageModel):
        return model
    if entry.adapter is None:
        raise Unavailable(f"The adapter {entry.name} is being loaded", retry_after=1.0)
    if entry.adapter.failure is not None:
        raise entry.adapter.failure
    return replace(model, name=entry.name, adapter=entry.name)


def _as(wanted: type[M], model: object) -> M:
    assert isinstance(model, wanted)
    return model


@contextlib.contextmanager
def _listening(entry: Entry, on_progress: OnProgress | None) -> Iterator[None]:
    if on_progress is not None:
        entry.listeners.append(on_progress)
    try:
        yield
    finally:
        if on_progress is not None:
            entry.listeners.remove(on_progress)
