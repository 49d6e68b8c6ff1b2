"""From settings to a running server, and from a signal to a clean end.

A stop goes in steps: new requests are refused; running ones may end by themselves for
`drain_seconds`; then the engines end what is left, each stream with its error event; requests
that still hang are cancelled; the sockets close. A second Ctrl-C skips all of it.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

import uvicorn
import uvloop
from starlette.types import ASGIApp

from mlxsrv.api.log import setup_logging
from mlxsrv.api.services import Services
from mlxsrv.backends import builtin
from mlxsrv.config.settings import ApiSettings, Settings, split_address
from mlxsrv.config.sources import BUILT_IN
from mlxsrv.core.collector import uncollected
from mlxsrv.core.errors import DeviceDead, MlxsrvError
from mlxsrv.core.kinds import Kind
from mlxsrv.supervised import DEVICE_DIED, Link

BACKLOG = 2048
KEEP_ALIVE_SECONDS = 75
"""Longer than clients keep an idle connection, so that none is closed under a request."""

END_SECONDS = 2.0
"""What a request gets to send its last event once it has been told to end."""

FORCED_EXIT = 128 + signal.SIGINT
EXAMPLE_MODEL = "mlx-community/Qwen3-4B-4bit"

logger = logging.getLogger(__name__)


class Application(Protocol):
    """What the composition root builds."""

    @property
    def app(self) -> ASGIApp: ...

    @property
    def services(self) -> Services: ...

    async def start(self) -> None:
        """Starts the device and loads the models; requests are answered meanwhile. Raises
        LoadError."""
        ...

    async def failed(self) -> None:
        """Returns when nothing can be served any more: the device thread has died."""
        ...

    async def drain(self, deadline: float) -> None:
        """Called when running requests have had their time: ends those that are left with
        ShuttingDown, within `deadline` seconds."""
        ...

    async def stop(self) -> None:
        """Releases everything; also after a `start` that failed or was cancelled."""
        ...


@dataclass(frozen=True, slots=True)
class Listener:
    """A bound socket, and the kind whose port it is."""

    socket: socket.socket
    kind: Kind | None = None

    @property
    def port(self) -> int:
        return int(self.socket.getsockname()[1])

    @property
    def url(self) -> str:
        host = self.socket.getsockname()[0]
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


def serve(settings: Settings, link: Link | None = None) -> int:
    """Serves until a signal, or until the device thread dies. Returns the exit code."""
    setup_logging(settings.api.log_level)
    try:
        listeners = listen(settings.api, link)
    except OSError as error:
        return _fail(error.strerror or str(error))
    with uncollected():
        from mlxsrv.app import build

    return run(settings, listeners, lambda: build(settings), link)


def listen(api: ApiSettings, link: Link | None) -> list[Listener]:
    """The sockets of the process before this one, or else new ones. Raises OSError."""
    if link is None:
        return bind(api)
    if link.listening:
        return [Listener(one, None if kind is None else Kind(kind)) for one, kind in link.listening]
    listeners = bind(api)
    link.hold([(one.socket, one.kind) for one in listeners])
    return listeners


def run(
    settings: Settings,
    listeners: Sequence[Listener],
    build: Callable[[], Application],
    link: Link | None = None,
) -> int:
    """Runs what `build` makes on sockets that are bound already. Returns the exit code."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_run(settings, listeners, build, link))
    except DeviceDead as error:
        return _fail(error.message, DEVICE_DIED)
    except MlxsrvError as error:
        return _fail(error.message)
    finally:
        for listener in listeners:
            listener.socket.close()


def _fail(message: str, code: int = 1) -> int:
    print(f"mlxsrv: error: {message}", file=sys.stderr, flush=True)
    return code


def bind(api: ApiSettings) -> list[Listener]:
    """Listens on the address and on each split port of the same host.

    Raises OSError whose `strerror` names the address and the port.
    """
    host, main_port = split_address(api.address)
    kinds = {port: kind for kind, port in api.ports.items() if port}
    wanted: list[tuple[int, Kind | None]] = [(main_port, kinds.pop(main_port, None))]
    wanted += kinds.items()
    wanted += [(0, kind) for kind, port in api.ports.items() if not port]
    listeners: list[Listener] = []
    try:
        for port, kind in wanted:
            listeners.append(Listener(_listen(host, port), kind))
    except OSError:
        for listener in listeners:
            listener.socket.close()
        raise
    return listeners


def _listen(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise OSError(error.errno, f"can't listen on {host}: {error.strerror}") from error
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        # Now rather than in the event loop: only a listening socket keeps others off the port.
        bound.listen(BACKLOG)
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            reason = f"port {port} on {host} is in use: choose another with --port"
        else:
            reason = f"can't listen on port {port} of {host}: {error.strerror}"
        raise OSError(error.errno, reason) from error
    bound.setblocking(False)
    return bound


class _HttpServer(uvicorn.Server):
    """uvicorn without its signal handling, which raises the signal again at exit."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _http_server(app: ASGIApp) -> _HttpServer:
    return _HttpServer(
        uvicorn.Config(
            app,
            http="httptools",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            # Nobody vouches for X-Forwarded-For here, and rate limits go by the peer.
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=int(END_SECONDS),
        )
    )


async def _run(
    settings: Settings,
    listeners: Sequence[Listener],
    build: Callable[[], Application],
    link: Link | None,
) -> int:
    application = build()
    services = application.services
    services.ports.update({one.port: one.kind for one in listeners if one.kind is not None})
    services.restarts = 0 if link is None else link.restarts
    stop = _stop_signal()
    http = _http_server(application.app)
    serving = asyncio.create_task(http.serve([one.socket for one in listeners]), name="http")
    starting = asyncio.create_task(application.start(), name="start")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    failing = asyncio.create_task(application.failed(), name="failed")
    ends = {stopping, serving, failing}
    try:
        await asyncio.wait({starting, *ends}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done() and not failing.done():
            starting.result()
            print(banner(services, listeners), flush=True)
            if link is not None:
                link.ready()
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        failed = failing.done()
        if failed:
            # Whoever connects from now on waits for the next process; the refusals go out.
            http.should_exit = True
            await services.lifecycle.wait_idle(END_SECONDS)
        else:
            await _drain(application, settings.api.drain_seconds)
    finally:
        for task in (starting, stopping, failing):
            await _end(task)
        http.should_exit = True
        await serving
        await application.stop()
    return DEVICE_DIED if failed else 0


def _stop_signal() -> asyncio.Event:
    """Set by SIGTERM or SIGINT; a second SIGINT ends the process where it stands."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def interrupt() -> None:
        if stop.is_set():
            print("mlxsrv: stopped at once", file=sys.stderr, flush=True)
            os._exit(FORCED_EXIT)
        stop.set()

    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, interrupt)
    return stop


async def _drain(application: Application, seconds: float) -> None:
    lifecycle = application.services.lifecycle
    lifecycle.drain()
    running = {"in_flight": lifecycle.in_flight, "seconds": seconds}
    logger.info("draining", extra={"fields": running})
    if await lifecycle.wait_idle(seconds):
        return
    logger.warning("ending what is left", extra={"fields": {"in_flight": lifecycle.in_flight}})
    with suppress(TimeoutError):
        async with asyncio.timeout(END_SECONDS):
            await application.drain(END_SECONDS)
    if not await lifecycle.wait_idle(END_SECONDS):
        lifecycle.abort()
        await lifecycle.wait_idle(END_SECONDS)


async def _end(task: asyncio.Task[object]) -> None:
    """Cancels a task that may be over; what it raised has been seen or does not matter now."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()


def banner(services: Services, listeners: Sequence[Listener]) -> str:
    """What a user wants to know first: where, on what, which models, and what next."""
    lines = [
        f"  {one.url}" + (f"  ({one.kind})" if one.kind is not None else "") for one in listeners
    ]
    names = ", ".join(model.name for model in services.registry.list()) or "none"
    lines += [f"  backend  {services.backend} ({services.backend_reason})", f"  models   {names}"]
    configured = services.settings.api.models.values()
    demos = {*BUILT_IN, *map(str, builtin.builtin_models().values())}
    if all(model.path in demos for model in configured):
        lines.append(f"  a real model: mlxsrv serve {EXAMPLE_MODEL}")
    return "\n".join(["mlxsrv is ready", *lines, "  stop with Ctrl-C"])
