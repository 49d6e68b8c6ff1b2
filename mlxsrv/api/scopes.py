"""Small readings of an ASGI scope that several of the middlewares need."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

HeaderList = list[tuple[bytes, bytes]]

SWITCHED = 101
"""The status of a request that became a WebSocket."""

_BODIES = frozenset({"http.response.body", "websocket.http.response.body", "websocket.close"})
_STARTS = frozenset({"http.response.start", "websocket.http.response.start", "websocket.accept"})


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first header called `name` (lower case)."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return None


def state_of(scope: Scope) -> dict[str, Any]:
    """The mapping behind `request.state`."""
    state: dict[str, Any] = scope.setdefault("state", {})
    return state


def adding_headers(send: Send, extra: Callable[[], Iterable[tuple[bytes, bytes]]]) -> Send:
    """`send` that adds `extra()` to the head of the answer."""

    async def sending(message: Message) -> None:
        if message["type"] in _STARTS:
            headers: HeaderList = [*message.get("headers", ()), *extra()]
            message = {**message, "headers": headers}
        await send(message)

    return sending


class Sending:
    """A `send` that knows how far the answer has got."""

    def __init__(self, send: Send) -> None:
        self.send = send
        self.status: int | None = None
        self.complete = False

    @property
    def started(self) -> bool:
        return self.status is not None

    async def __call__(self, message: Message) -> None:
        kind = message["type"]
        if kind in _STARTS:
            self.status = message.get("status", SWITCHED)
        elif kind in _BODIES and not message.get("more_body", False):
            self.complete = True
        await self.send(message)


async def refuse(scope: Scope, receive: Receive, send: Send, response: Response) -> None:
    """Answers instead of the application; a WebSocket gets the same answer where the server
    can send one before the handshake, and is closed (1008, policy violation) where not."""
    if scope["type"] == "websocket":
        await receive()
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1008})
            return
    await response(scope, receive, send)
