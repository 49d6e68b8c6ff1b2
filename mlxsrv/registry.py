"""Names → models: what is configured, what is loaded, and who is using it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

from mlxsrv.backends import builtin, checkpoint, hub
from mlxsrv.backends.checkpoint import Checkpoint
from mlxsrv.backends.device import Device
from mlxsrv.backends.select import Choice
from mlxsrv.config.settings import ModelSettings, Settings
from mlxsrv.config.sources import is_hub_id
from mlxsrv.core.errors import KindNotLoaded, LoadError, MlxsrvError, ModelNotFound
from mlxsrv.core.kinds import TEXT_KINDS, Kind
from mlxsrv.core.meters import TextMeters
from mlxsrv.engines.load import context_of, load_text
from mlxsrv.engines.model import TextModel

State = Literal["available", "loading", "loaded"]

DEMO_NOTE = "A small demonstration model, trained for this server; it knows very little."

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What callers are told of a model. Sizes in bytes and tokens, `created` in Unix seconds."""

    name: str
    kind: Kind
    state: State
    aliases: tuple[str, ...]
    created: int
    memory_bytes: int | None
    context_length: int | None
    backend: str | None
    quantization: str | None
    description: str | None


@dataclass(slots=True)
class _Entry:
    """A model under its served name, with what is known of it so far."""

    name: str
    settings: ModelSettings
    checkpoint: Checkpoint | None = None
    note: str | None = None
    model: TextModel | None = None
    loading: asyncio.Task[TextModel] | None = None
    leases: int = field(default=0)

    @property
    def kind(self) -> Kind:
        if self.settings.type is not None:
            return self.settings.type
        return self.checkpoint.kind if self.checkpoint is not None else Kind.CHAT

    @property
    def state(self) -> State:
        if self.model is not None:
            return "loaded"
        return "available" if self.loading is None else "loading"


class Registry:
    """Belongs to the event loop's thread; models themselves live on the device thread."""

    def __init__(self, settings: Settings, device: Device, choice: Choice) -> None:
        self._settings = settings
        self._device = device
        self._choice = choice
        self._entries: dict[str, _Entry] = {}
        self._found = asyncio.Event()
        self._ready = False

    # What there is

    async def start(self, report: hub.Report | None = None) -> None:
        """Finds every configured model and loads those that are to be loaded at start.

        What the configuration names may be downloaded; `report` hears of the progress.
        Raises LoadError and its kin.
        """
        for name, settings in expand(self._settings.api.models).items():
            entry = self._entries[name] = _Entry(name, settings)
            entry.checkpoint = await asyncio.to_thread(_inspect, settings, report)
            if entry.checkpoint.folder in builtin.builtin_models().values():
                entry.note = DEMO_NOTE
        self._found.set()
        for entry in self._entries.values():
            if entry.kind not in TEXT_KINDS:
                log.warning("no route serves models of type %s yet: %s", entry.kind, entry.name)
            elif entry.settings.preload:
                await self._loaded(entry)
        self._ready = True

    def state(self) -> Literal["loading", "ready"]:
        return "ready" if self._ready else "loading"

    def models_by_state(self) -> Mapping[str, int]:
        return Counter(entry.state for entry in self._entries.values())

    def memory_bytes(self) -> Mapping[str, int]:
        """Bytes that are held, by what for."""
        models = [entry.model for entry in self._entries.values() if entry.model is not None]
        return {
            "weights": sum(model.facts.memory_bytes for model in models),
            "prefix_cache": sum(model.engine.prefix_cache_bytes for model in models),
        }

    def text_meters(self) -> list[TextMeters]:
        """The meters of every loaded text model."""
        models = (entry.model for entry in self._entries.values())
        return [model.engine.meters for model in models if model is not None]

    def list(self, kind: Kind | None = None) -> list[ModelInfo]:
        entries = self._entries.values()
        return [self._info(e) for e in entries if kind is None or _same_family(e.kind, kind)]

    def info(self, name: str) -> ModelInfo:
        """Raises ModelNotFound."""
        entry = self._named(name)
        if entry is None:
            raise _not_found(name)
        return self._info(entry)

    def _info(self, entry: _Entry) -> ModelInfo:
        found = entry.checkpoint
        return ModelInfo(
            name=entry.name,
            kind=entry.kind,
            state=entry.state,
            aliases=entry.settings.aliases,
            created=found.created if found else 0,
            memory_bytes=entry.model.facts.memory_bytes if entry.model is not None else None,
            context_length=context_of(entry.settings, found) if found else None,
            backend=self._choice.name if entry.model is not None else None,
            quantization=found.quantization if found else None,
            description=entry.note,
        )

    def _named(self, name: str) -> _Entry | None:
        if name in self._entries:
            return self._entries[name]
        entries = self._entries.values()
        return next((entry for entry in entries if name in entry.settings.aliases), None)

    async def resolve(
        self, name: str | None, kinds: Collection[Kind], *, prefer: Kind | None = None
    ) -> str:
        """The served name that a request means.

        A name or an alias wins; then, where requests may download, a hub id; then the only
        model that can serve, whatever it was called. Without a name: the first model of kind
        `prefer`, else the first that can serve. While
        the server starts, this waits until it is known what there is. Raises KindNotLoaded and
        ModelNotFound.
        """
        await self._found.wait()
        able = [entry for entry in self._entries.values() if entry.kind in kinds]
        if name is None:
            able.sort(key=lambda entry: entry.kind != prefer)
            if not able:
                raise _kind_not_loaded(kinds)
            return able[0].name
        entry = self._named(name)
        if entry is not None:
            if entry.kind not in kinds:
                raise ModelNotFound(
                    f"The model `{name}` is of type {entry.kind}, which can't do this",
                    param="model",
                )
            return entry.name
        if self._settings.hub.allow_download and is_hub_id(name):
            self._entries[name] = _Entry(name, ModelSettings(path=name))
            return name
        if not able:
            raise _kind_not_loaded(kinds)
        if len(able) == 1:
            return able[0].name
        raise _not_found(name)

    # Using a model

    @contextlib.asynccontextmanager
    async def text(self, name: str) -> AsyncIterator[TextModel]:
        """Leases a text model by its served name; loads it first where it is not loaded.

        Callers that come while it loads wait for the one load. Raises LoadError.
        """
        entry = self._entries.get(name)
        if entry is None:
            raise _not_found(name)
        entry.leases += 1
        try:
            yield await self._loaded(entry)
        finally:
            entry.leases -= 1

    async def _loaded(self, entry: _Entry) -> TextModel:
        if entry.model is not None:
            return entry.model
        if entry.loading is None:
            entry.loading = asyncio.create_task(self._load(entry), name=f"load {entry.name}")
        # A caller that goes away must not stop the load that others wait for.
        return await asyncio.shield(entry.loading)

    async def _load(self, entry: _Entry) -> TextModel:
        try:
            if entry.checkpoint is None:
                entry.checkpoint = await self._fetch(entry)
            log.info("loading %s", entry.name)
            entry.model = await load_text(
                entry.name,
                entry.checkpoint,
                entry.settings,
                settings=self._settings,
                device=self._device,
                choice=self._choice,
            )
            return entry.model
        finally:
            entry.loading = None

    async def _fetch(self, entry: _Entry) -> Checkpoint:
        """Finds a model that a request named; one that can't serve leaves the list again."""
        try:
            found = await asyncio.to_thread(_inspect, entry.settings, None)
            if found.kind not in TEXT_KINDS:
                raise LoadError(f"{entry.name} is of type {found.kind}, which can't do this")
        except MlxsrvError as error:
            del self._entries[entry.name]
            raise ModelNotFound(error.message, param="model") from error
        return found

    def cancel_all(self, error: MlxsrvError) -> None:
        """Ends every request on every model with `error`."""
        for entry in self._entries.values():
            if entry.model is not None:
                entry.model.engine.cancel_all(error)


def expand(models: Mapping[str, ModelSettings]) -> dict[str, ModelSettings]:
    """The configured models, or the built-in demo set where there are none."""
    if models:
        return dict(models)
    folders = builtin.builtin_models()
    if not folders:
        raise LoadError("no model was named, and the built-in demo models are not installed")
    return {
        name: ModelSettings(path=str(folder), aliases=("demo",) if name == "demo-chat" else ())
        for name, folder in folders.items()
    }


def _inspect(settings: ModelSettings, report: hub.Report | None) -> Checkpoint:
    folder = builtin.builtin_folder(settings.path, settings.type)
    if folder is None:
        folder = hub.locate(settings.path, download=True, progress=report)
    return checkpoint.read(folder)


def _same_family(one: Kind, other: Kind) -> bool:
    return one == other or (one in TEXT_KINDS and other in TEXT_KINDS)


def _not_found(name: str) -> ModelNotFound:
    return ModelNotFound(f"The model `{name}` does not exist", param="model")


def _kind_not_loaded(kinds: Collection[Kind]) -> KindNotLoaded:
    words = {Kind.STT: "audio", Kind.TTS: "audio"}
    kind = min(kinds, key=list(Kind).index)
    word = "text" if kind in TEXT_KINDS else words.get(kind, str(kind))
    return KindNotLoaded(f"No {word} model loaded", param="model")
