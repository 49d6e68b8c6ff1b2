"""What handlers and middlewares are given: `request.app.state.services`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from starlette.requests import HTTPConnection
from starlette.types import Scope

from mlxsrv.api.lifecycle import Lifecycle
from mlxsrv.api.limits import RateLimiter
from mlxsrv.config.settings import Settings
from mlxsrv.core.kinds import Kind
from mlxsrv.core.meters import (
    EncoderMeters,
    ImageMeters,
    RequestMeters,
    SpeechMeters,
    TextMeters,
    TranscriptionMeters,
)

if TYPE_CHECKING:
    from mlxsrv.backends.device import Device
    from mlxsrv.registry import Registry


class Named(Protocol):
    @property
    def name(self) -> str: ...


class Memory(Protocol):
    """Bytes that models may hold together, and hold, by what for."""

    @property
    def budget_bytes(self) -> int: ...

    @property
    def held(self) -> Mapping[str, int]: ...


class RegistryView(Protocol):
    """What the operation routes ask of the registry; cheap enough for each scrape."""

    def state(self) -> Literal["loading", "ready"]: ...

    def list(self) -> Sequence[Named]: ...

    def models_by_state(self) -> Mapping[str, int]:
        """How many models are loaded, loading, idle and available."""
        ...

    def memory(self) -> Memory:
        """What models may hold, and hold."""
        ...

    def text_meters(self) -> Sequence[TextMeters]: ...

    def loads(self) -> Mapping[str, int]:
        """How often each model was loaded."""
        ...

    def encoder_meters(self) -> Sequence[EncoderMeters]: ...

    def transcription_meters(self) -> Sequence[TranscriptionMeters]: ...

    def speech_meters(self) -> Sequence[SpeechMeters]: ...

    def image_meters(self) -> Sequence[ImageMeters]: ...


@dataclass(slots=True)
class Services:
    """Made once by the composition root.

    `ports` maps real port numbers to the kind they answer for; it is filled when the sockets
    are bound. `restarts` counts the serving processes that died before this one. Pictures are
    read in turns, those of one request at a time: `reading` is whose turn it is.
    """

    settings: Settings
    registry: Registry
    device: Device
    limiter: RateLimiter
    backend: str = ""
    backend_reason: str = ""
    requests: RequestMeters = field(default_factory=RequestMeters)
    lifecycle: Lifecycle = field(default_factory=Lifecycle)
    ports: dict[int, Kind] = field(default_factory=dict)
    restarts: int = 0
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)


def services_of(connection: HTTPConnection) -> Services:
    services: Any = connection.app.state.services
    assert isinstance(services, Services)
    return services


def port_kind(scope: Scope, services: Services) -> Kind | None:
    """The kind that the port of this request is reserved for, with split ports."""
    server = scope.get("server")
    return services.ports.get(server[1]) if server else None
