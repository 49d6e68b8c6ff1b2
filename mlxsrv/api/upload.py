"""How large a request body may be, and how long its sender may pause."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlxsrv.api.errors import BodyRejected, ClientGone, error_response
from mlxsrv.api.scopes import header
from mlxsrv.config.settings import ApiSettings
from mlxsrv.core.errors import InvalidRequest, TooLarge

STALL_SECONDS = 60.0


class BodyLimit:
    """Middleware: 413 from `Content-Length` or while reading, 400 for a body that stalls.

    Only multipart bodies carry files, so only they may use the larger limit.
    """

    def __init__(
        self, app: ASGIApp, api: ApiSettings, *, stall_seconds: float = STALL_SECONDS
    ) -> None:
        self.app = app
        self.max_bytes = int(api.max_body_bytes)
        self.max_json_bytes = api.max_json_bytes
        self.stall_seconds = stall_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        kind = (header(scope, b"content-type") or b"").lower()
        limit = self.max_bytes if kind.startswith(b"multipart/") else self.max_json_bytes
        if (declared := _declared_length(scope)) > limit:
            await error_response(scope["path"], _too_large(limit, declared))(scope, receive, send)
            return
        await self.app(scope, _Reader(receive, limit, self.stall_seconds), send)


class _Reader:
    """A `receive` that counts and watches the body, and is the server's own after its end."""

    def __init__(self, receive: Receive, limit: int, stall_seconds: float) -> None:
        self.receive = receive
        self.limit = limit
        self.stall_seconds = stall_seconds
        self.seen = 0
        self.complete = False

    async def __call__(self) -> Message:
        if self.complete:
            return await self.receive()
        try:
            async with asyncio.timeout(self.stall_seconds):
                message = await self.receive()
        except TimeoutError:
            raise _stalled(self.stall_seconds) from None
        if message["type"] == "http.disconnect":
            raise ClientGone
        self.seen += len(message.get("body", b""))
        if self.seen > self.limit:
            # Kept open: the server discards the rest, since closing on a client that is
            # still sending would take the answer from it.
            raise BodyRejected(_too_large(self.limit))
        self.complete = not message.get("more_body", False)
        return message


def _stalled(seconds: float) -> BodyRejected:
    message = f"The request body stopped arriving for {seconds:g} seconds"
    rejected = BodyRejected(InvalidRequest(message, code="incomplete_body"))
    rejected.headers = {"Connection": "close"}
    return rejected


def _declared_length(scope: Scope) -> int:
    value = header(scope, b"content-length") or b""
    return int(value) if value.isdigit() else 0


def _too_large(limit: int, declared: int | None = None) -> TooLarge:
    size = f"of {declared} bytes " if declared is not None else ""
    return TooLarge(f"The request body {size}is larger than the limit of {limit} bytes")
