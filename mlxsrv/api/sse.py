"""Answers that are sent while they are made, and end with their client: server-sent events, which
are kept alive, and plain bytes.

The hot path is one `await send` a chunk; a single watcher task per stream does the waiting
for disconnects and for silence.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mlxsrv.api.disconnect import disconnected, until_disconnect
from mlxsrv.api.errors import error_event, status_of
from mlxsrv.api.scopes import state_of
from mlxsrv.core.errors import MlxsrvError, ShuttingDown

KEEP_ALIVE = b": keep-alive\n\n"
KEEP_ALIVE_SECONDS = 10.0

HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",
}

logger = logging.getLogger(__name__)


async def open_stream(
    request: Request,
    events: AsyncIterator[bytes],
    *,
    keep_alive_seconds: float = KEEP_ALIVE_SECONDS,
    headers: Mapping[str, str] | None = None,
) -> EventStream:
    """Waits for the first chunk, so that an early error still gets its own status code; if
    that takes longer than a keep-alive interval, the answer starts without it.

    Each chunk is one or more whole events. Raises what `events` raises first, and ClientGone.
    The first step of `events` runs in a task of its own, the others in the request's.
    """
    first = await _first(request, events, keep_alive_seconds)
    headers = {**HEADERS, **(headers or {})}
    return EventStream(events, first, headers, keep_alive_seconds=keep_alive_seconds)


async def open_bytes(
    request: Request, chunks: AsyncIterator[bytes], headers: Mapping[str, str]
) -> ByteStream:
    """The same for what is not events: nothing is sent before the first chunk."""
    return ByteStream(chunks, await _first(request, chunks, None), headers)


async def _first(
    request: Request, chunks: AsyncIterator[bytes], seconds: float | None
) -> asyncio.Task[bytes | None]:
    """The first chunk, or a task that still waits for it after so many seconds."""
    first: asyncio.Task[bytes | None] = asyncio.create_task(_next(chunks), name="first chunk")
    try:
        done, _ = await until_disconnect(request, asyncio.wait({first}, timeout=seconds))
        if done:
            first.result()
    except BaseException:
        await _end(first, chunks)
        raise
    return first


async def _next(events: AsyncIterator[bytes]) -> bytes | None:
    # None for the end, because StopAsyncIteration can't be a task's result.
    return await anext(events, None)


async def _end(first: asyncio.Task[bytes | None], events: AsyncIterator[bytes]) -> None:
    """Stops the iterator where it stands, so that what it holds is free at once."""
    if not first.done():
        first.cancel()
        await asyncio.wait({first})
    if not first.cancelled():
        first.exception()  # noted here, or asyncio reports it as never retrieved
    close = getattr(events, "aclose", None)
    if close is not None:
        await close()


class EventStream(Response):
    """The response of `open_stream`."""

    def __init__(
        self,
        events: AsyncIterator[bytes],
        first: asyncio.Task[bytes | None],
        headers: Mapping[str, str] = HEADERS,
        *,
        keep_alive_seconds: float | None = KEEP_ALIVE_SECONDS,
    ) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers(headers)
        self._events = events
        self._first = first
        self._interval = keep_alive_seconds
        self._last_output = 0.0
        self._gone = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        assert task is not None
        watcher: asyncio.Task[None] | None = None
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            self._last_output = asyncio.get_running_loop().time()
            watcher = asyncio.create_task(self._watch(task, receive, send), name="stream watcher")
            last = await self._run(scope, send)
            watcher.cancel()
            if last is not None:
                await send({"type": "http.response.body", "body": last, "more_body": False})
        except asyncio.CancelledError:
            if not self._gone:
                raise
            task.uncancel()
            state_of(scope)["client_gone"] = True
        finally:
            if watcher is not None:
                watcher.cancel()
            await _end(self._first, self._events)

    def _last_words(self, path: str, error: Exception) -> bytes | None:
        """What tells the client of an error; None: that the answer breaks off has to do."""
        return error_event(path, error)

    async def _run(self, scope: Scope, send: Send) -> bytes | None:
        """Sends all chunks. Returns what is left to say: the error that ended them, if any."""
        try:
            await self._pump(send)
        except asyncio.CancelledError:
            if self._gone:
                raise
            # Nobody but a server that is going away cancels a request's task.
            closing = self._last_words(scope["path"], ShuttingDown("The server is shutting down"))
            if closing is not None:
                await send({"type": "http.response.body", "body": closing, "more_body": False})
            raise
        except Exception as error:
            expected = isinstance(error, MlxsrvError) and status_of(error) != 500
            logger.log(
                logging.WARNING if expected else logging.ERROR,
                "stream failed: %s",
                error,
                exc_info=None if expected else error,
            )
            state_of(scope)["stream_error"] = type(error).__name__
            return self._last_words(scope["path"], error)
        return b""

    async def _pump(self, send: Send) -> None:
        now = asyncio.get_running_loop().time
        chunk = await self._first
        if chunk is None:
            return
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
        self._last_output = now()
        async for chunk in self._events:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            self._last_output = now()

    async def _watch(self, task: asyncio.Task[object], receive: Receive, send: Send) -> None:
        now = asyncio.get_running_loop().time
        while not self._gone:
            silent_until = None if self._interval is None else self._last_output + self._interval
            with suppress(TimeoutError):
                async with asyncio.timeout_at(silent_until):
                    await disconnected(receive)
                    self._gone = True
                    task.cancel()
                    return
            if self._interval is not None and now() >= self._last_output + self._interval:
                await send({"type": "http.response.body", "body": KEEP_ALIVE, "more_body": True})
                self._last_output = now()


class ByteStream(EventStream):
    """The response of `open_bytes`. One that fails half way breaks off, so that clients see it."""

    def __init__(
        self,
        chunks: AsyncIterator[bytes],
        first: asyncio.Task[bytes | None],
        headers: Mapping[str, str],
    ) -> None:
        super().__init__(chunks, first, headers, keep_alive_seconds=None)

    def _last_words(self, path: str, error: Exception) -> bytes | None:
        return None
