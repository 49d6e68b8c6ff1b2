"""Whether requests are still admitted, and which are running: what a graceful stop needs."""

from __future__ import annotations

import asyncio

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from mlxsrv.api.errors import error_response
from mlxsrv.api.scopes import Sending, refuse
from mlxsrv.core.errors import ShuttingDown

STILL_ANSWERED = frozenset({"/health", "/metrics", "/v1/metrics"})
"""What the operator needs to see while the server drains."""


class Lifecycle:
    """Belongs to the event loop's thread."""

    def __init__(self) -> None:
        self.draining = False
        self.aborting = False
        self._running: set[asyncio.Task[object]] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def in_flight(self) -> int:
        return len(self._running)

    def enter(self, task: asyncio.Task[object]) -> None:
        self._running.add(task)
        self._idle.clear()

    def leave(self, task: asyncio.Task[object]) -> None:
        self._running.discard(task)
        if not self._running:
            self._idle.set()

    def drain(self) -> None:
        """From now on new requests are refused."""
        self.draining = True

    async def wait_idle(self, seconds: float) -> bool:
        """Waits for running requests to end, at most so long. Whether all have ended."""
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def abort(self) -> None:
        """Cancels the requests still running; each answers that the server is going away."""
        self.draining = self.aborting = True
        for task in self._running:
            task.cancel()


class Admission:
    """Middleware: counts running requests, and refuses new ones while the server drains."""

    def __init__(self, app: ASGIApp, lifecycle: Lifecycle) -> None:
        self.app = app
        self.lifecycle = lifecycle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path in STILL_ANSWERED:
            await self.app(scope, receive, send)
            return
        if self.lifecycle.draining:
            await refuse(scope, receive, send, _going_away(path))
            return
        task = asyncio.current_task()
        assert task is not None
        sending = Sending(send)
        self.lifecycle.enter(task)
        try:
            await self.app(scope, receive, sending)
        except asyncio.CancelledError:
            if not self.lifecycle.aborting:
                raise
            task.uncancel()
            if scope["type"] == "http" and not sending.started:
                await _going_away(path)(scope, receive, sending)
        finally:
            self.lifecycle.leave(task)


def _going_away(path: str) -> Response:
    error = ShuttingDown("The server is shutting down")
    return error_response(path, error, {"Connection": "close"})
