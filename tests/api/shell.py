"""A small application behind the real layers, and two ways to call it."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Literal, cast

import httpx
import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Request
from pydantic import BaseModel, Field
from starlette.responses import Response
from starlette.types import ASGIApp

from mlxsrv.api import errors, health, metrics
from mlxsrv.api.access import note
from mlxsrv.api.body import StrictRoute
from mlxsrv.api.disconnect import until_disconnect
from mlxsrv.api.limits import RateLimiter, admit, rate_limited
from mlxsrv.api.middleware import wrap
from mlxsrv.api.services import Named, Services, port_kind, services_of
from mlxsrv.api.sse import open_stream
from mlxsrv.backends.device import Device
from mlxsrv.config.settings import ApiSettings, Settings
from mlxsrv.core.errors import GenerationFailed, ModelNotFound
from mlxsrv.core.meters import (
    DeviceMeters,
    EncoderMeters,
    ImageMeters,
    SpeechMeters,
    TextMeters,
    TranscriptionMeters,
)
from mlxsrv.registry import MemoryState, Registry

BASE = "http://127.0.0.1:8080"


class StandInRegistry:
    """What the operation routes ask of the registry, settable."""

    def __init__(self) -> None:
        self.now: Literal["loading", "ready"] = "ready"
        self.text = TextMeters()
        self.encoder = EncoderMeters()
        self.transcription = TranscriptionMeters()
        self.speech = SpeechMeters()
        self.image = ImageMeters()

    def state(self) -> Literal["loading", "ready"]:
        return self.now

    def list(self) -> Sequence[Named]:
        return ()

    def models_by_state(self) -> Mapping[str, int]:
        return {"loaded": 1, "available": 2}

    def memory(self) -> MemoryState:
        return MemoryState(4096, {"weights": 1024}, 3072)

    def loads(self) -> Mapping[str, int]:
        return {"tiny": 2}

    def text_meters(self) -> Sequence[TextMeters]:
        return (self.text,)

    def encoder_meters(self) -> Sequence[EncoderMeters]:
        return (self.encoder,)

    def transcription_meters(self) -> Sequence[TranscriptionMeters]:
        return (self.transcription,)

    def speech_meters(self) -> Sequence[SpeechMeters]:
        return (self.speech,)

    def image_meters(self) -> Sequence[ImageMeters]:
        return (self.image,)


class StandInDevice:
    def __init__(self) -> None:
        self.alive = True
        self.meters = DeviceMeters()


def make_services(*, api: ApiSettings | None = None, **options: Any) -> Services:
    settings = Settings(api=api or ApiSettings(**options))
    return Services(
        settings=settings,
        registry=cast(Registry, StandInRegistry()),
        device=cast(Device, StandInDevice()),
        limiter=RateLimiter.of(settings.api),
        backend="torch",
        backend_reason="no Metal here",
    )


class TextPart(BaseModel):
    type: Literal["text"]
    text: str


class ImagePart(BaseModel):
    type: Literal["image_url"]
    image_url: dict[str, str]


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class Message(BaseModel):
    role: Literal["system", "user"]
    content: str | list[Part]


class Chat(BaseModel, extra="forbid"):
    messages: list[Message]
    model: str = "demo"
    temperature: float | None = Field(None, ge=0, le=2)
    stop: str | list[str] | None = None
    extra: Any = None


class Probe:
    """What the application's side of a request went through."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.ended = threading.Event()
        self.sent = 0


def make_app(services: Services) -> FastAPI:
    app = FastAPI()
    app.state.services = services
    app.state.probe = Probe()
    errors.install(app)
    for router in (health.router, metrics.router, _router()):
        app.include_router(router)
    return app


def _router() -> APIRouter:
    router = APIRouter(route_class=StrictRoute)

    @router.post("/v1/chat")
    @router.post("/api/v1/chat")
    @router.post("/v1/messages")
    async def chat(request: Request, body: Chat) -> dict[str, Any]:
        if body.model == "nobody":
            raise ModelNotFound("The model `nobody` does not exist", param="model")
        admit(request, tokens=len(body.messages))
        note(request, model=body.model, prompt_tokens=7, completion_tokens=3)
        return {"messages": [m.model_dump() for m in body.messages], "extra": body.extra}

    @router.get("/v1/models/{name:path}", dependencies=[Depends(rate_limited)])
    async def model(request: Request, name: str) -> dict[str, str | None]:
        kind = port_kind(request.scope, services_of(request))
        return {"id": name, "kind": kind}

    @router.get("/v1/boom")
    async def boom() -> None:
        raise RuntimeError("secret /home/me/weights.bin")

    @router.post("/v1/slow")
    async def slow(request: Request, body: dict[str, Any]) -> dict[str, str]:
        return await until_disconnect(request, _slowly(request.app.state.probe))

    @router.post("/v1/stream")
    async def stream(request: Request, body: dict[str, Any]) -> Response:
        events = _events(request.app.state.probe, body)
        return await open_stream(request, events, keep_alive_seconds=body.get("keep_alive", 10))

    @router.get("/")
    async def page() -> Response:
        return Response("<html>", media_type="text/html")

    return router


async def _slowly(probe: Probe) -> dict[str, str]:
    probe.started.set()
    try:
        await asyncio.Event().wait()
    finally:
        probe.ended.set()
    return {}


async def _events(probe: Probe, body: dict[str, Any]) -> AsyncIterator[bytes]:
    """`count` chunks of `size` bytes; fails at `fail_at`; hangs at `hang_at`."""
    try:
        for number in range(body.get("count", 3)):
            if number == body.get("fail_at"):
                raise GenerationFailed("this sequence failed")
            if number == body.get("hang_at"):
                probe.started.set()
                await asyncio.sleep(body.get("hang_seconds", 3600))
            probe.sent += 1
            yield b"data: %d%s\n\n" % (number, b"x" * body.get("size", 0))
            await asyncio.sleep(0)
        yield b"data: [DONE]\n\n"
    finally:
        probe.ended.set()


def call(app: ASGIApp, method: str, path: str, **options: Any) -> httpx.Response:
    """One request straight into `app`, whose exceptions must not come out of it."""

    async def calling() -> httpx.Response:
        transport = httpx.ASGITransport(app=app, client=("10.0.0.9", 4711))
        async with httpx.AsyncClient(transport=transport, base_url=BASE) as client:
            return await client.request(method, path, **options)

    return asyncio.run(calling())


def wrapped(services: Services | None = None, **api: Any) -> ASGIApp:
    services = services or make_services(**api)
    return wrap(make_app(services), services)


@contextmanager
def live(app: ASGIApp) -> Iterator[tuple[str, int]]:
    """`app` behind the real HTTP server on a free loopback port."""
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        app,
        lifespan="off",
        http="httptools",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([bound],))
    thread.start()
    try:
        host, port = bound.getsockname()
        bound.listen()
        yield host, port
    finally:
        server.should_exit = True
        thread.join()
        bound.close()


def raw_request(port: int, method: str, path: str, body: bytes = b"", *headers: str) -> bytes:
    """The bytes of a request, for sockets that then misbehave."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", *headers]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body
