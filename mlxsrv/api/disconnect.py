"""Noticing that the client has gone while its answer is still being made."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Receive

from mlxsrv.api.errors import ClientGone

T = TypeVar("T")


async def disconnected(receive: Receive) -> None:
    """Returns when the client has closed the connection (or ruined its request)."""
    try:
        while (await receive())["type"] != "http.disconnect":
            pass
    except HTTPException:
        return  # it left, or stalled, in the middle of a body that nobody read


async def until_disconnect(request: Request, work: Awaitable[T]) -> T:
    """Awaits `work`, but cancels it as soon as the client goes. Raises ClientGone then.

    The request's body must have been read.
    """
    task = asyncio.current_task()
    assert task is not None
    gone = False

    async def watch() -> None:
        nonlocal gone
        await disconnected(request.receive)
        gone = True
        task.cancel()

    watcher = asyncio.create_task(watch(), name="disconnect watcher")
    try:
        return await work
    except asyncio.CancelledError:
        if not gone:
            raise
        raise ClientGone from None
    finally:
        watcher.cancel()
        if gone:
            task.uncancel()
