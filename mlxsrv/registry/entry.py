"""What is known of a model under its served name, and what callers are told of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mlxsrv.backends.checkpoint import Checkpoint
from mlxsrv.backends.footprint import Footprint
from mlxsrv.config.settings import ModelSettings
from mlxsrv.core.errors import MlxsrvError
from mlxsrv.core.image import ImageFacts
from mlxsrv.core.kinds import Kind
from mlxsrv.core.speech import SpeechFacts
from mlxsrv.engines.model import Model

State = Literal["available", "loading", "idle", "loaded"]
"""`loaded` models are answering requests; `idle` ones are in memory and ready to."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Sizes in bytes and tokens, times in seconds (`created` since 1970). `base` and `adapter`
    are those of a LoRA adapter: the model it belongs to, and the folder it came from. `speech`
    and `image` are known of a model that speaks or draws once it has been in memory."""

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
    base: str | None = None
    adapter: str | None = None
    ttl: float | None = None
    pin: bool = False
    leases: int = 0
    idle_seconds: float | None = None
    speech: SpeechFacts | None = None
    image: ImageFacts | None = None


@dataclass(frozen=True, slots=True)
class AdapterInfo:
    """A LoRA adapter and the model it belongs to. `scale` multiplies its own."""

    name: str
    base: str
    path: str
    scale: float
    rank: int
    memory_bytes: int
    state: State


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """A model to load by API: a served name, a manifest's, a hub id, or a path."""

    model: str
    name: str | None = None
    kind: Kind | None = None
    ttl: float | None = None
    pin: bool | None = None


@dataclass(frozen=True, slots=True)
class LoadProgress:
    """How far a load is, in bytes; `total` is None where it is not known."""

    stage: Literal["waiting", "download", "load"]
    done: int
    total: int | None


OnProgress = Callable[[LoadProgress], None]


@dataclass(frozen=True, slots=True)
class MemoryState:
    """Bytes that models may hold, and hold, by what for."""

    budget_bytes: int
    held: Mapping[str, int]
    available: int


@dataclass(slots=True)
class LoadedAdapter:
    """A LoRA adapter of an entry; `failure` says why it could not come back with its base."""

    folder: Path
    scale: float
    rank: int
    nbytes: int
    failure: MlxsrvError | None = None


@dataclass(slots=True, eq=False)
class Entry:
    """A model under its served name; an adapter's entry has a `base` and no model of its own.

    `tickets` are callers who wait until it is in memory. A model that is `leaving` serves out
    its leases and gives no more. `own_adapter` is the LoRA adapter that it always runs with.
    A `staged` one was loaded in the smaller form of its footprint.
    """

    name: str
    settings: ModelSettings
    checkpoint: Checkpoint | None = None
    note: str | None = None
    base: Entry | None = None
    adapter: LoadedAdapter | None = None
    model: Model | None = None
    footprint: Footprint | None = None
    staged: bool = False
    speech: SpeechFacts | None = None
    image: ImageFacts | None = None
    held: int = 0
    leases: int = 0
    own_adapter: Path | None = None
    leaving: bool = False
    loading: bool = False
    last_used: float = field(default_factory=time.monotonic)
    tickets: list[asyncio.Future[Model]] = field(default_factory=list)
    listeners: list[OnProgress] = field(default_factory=list)
    adapters: dict[str, Entry] = field(default_factory=dict)

    @property
    def held_as(self) -> Footprint | None:
        """The form in which it is loaded, or would be."""
        whole = self.footprint
        return whole.staged if whole is not None and self.staged else whole

    @property
    def kind(self) -> Kind:
        if self.base is not None:
            return self.base.kind
        if self.settings.type is not None:
            return self.settings.type
        return self.checkpoint.kind if self.checkpoint is not None else Kind.CHAT

    @property
    def state(self) -> State:
        if self.base is not None and self.adapter is None:
            return "loading"
        if self.base is not None and self.base.model is None:
            return self.base.state
        if self.model is None and self.base is None:
            return "loading" if self.loading else "available"
        return "loaded" if self.leases else "idle"

    def report(self, progress: LoadProgress) -> None:
        for listener in tuple(self.listeners):
            listener(progress)
