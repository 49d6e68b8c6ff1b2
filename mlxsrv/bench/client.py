"""Sends requests and notes when the bytes of the answers arrive; little more, to stay cheap."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

import orjson

from mlxsrv.bench.answer import Answer, answer_of
from mlxsrv.bench.http1 import LAST_CHUNK, HttpAnswer, Piece, read_answer
from mlxsrv.core.errors import ConfigError

PATIENCE = 300.0
QUICK = 5.0
"""Seconds after which an answer is given up: a generated one, and any other."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a server is, up to but without `/v1`, and the name its model answers to."""

    host: str
    port: int
    model: str
    root: str = ""
    api_key: str | None = None

    @staticmethod
    def of(url: str, model: str, api_key: str | None = None) -> Endpoint:
        """Takes the base URL with or without `/v1`. Raises ConfigError."""
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ConfigError(f"--url: {url} is not an http:// URL")
        root = parts.path.rstrip("/").removesuffix("/v1")
        return Endpoint(parts.hostname, parts.port or 80, model, root, api_key)

    def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        keep: bool = False,
        content_type: str = "application/json",
    ) -> bytes:
        """A whole HTTP request, after which the server is to close the connection or `keep` it."""
        lines = [
            f"{method} {self.root}{path} HTTP/1.1",
            f"Host: {self.host}:{self.port}",
            f"Connection: {'keep-alive' if keep else 'close'}",
            f"Content-Type: {content_type}",
            f"Content-Length: {len(body)}",
        ]
        if self.api_key:
            lines.append(f"Authorization: Bearer {self.api_key}")
        return "\r\n".join([*lines, "", ""]).encode() + body


class Exchange(asyncio.Protocol):
    """One request on a connection of its own."""

    def __init__(self, request: bytes) -> None:
        self.sent = time.perf_counter()
        self.pieces: list[Piece] = []
        self._request = request
        self._left = False
        self._wanted = 0
        self._progress = asyncio.Event()
        self._ended = asyncio.Event()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are transports without inheriting from asyncio's class.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self.pieces.append((time.perf_counter(), data))
        if self._wanted and len(self.pieces) >= self._wanted:
            self._progress.set()
        # Not every server closes the connection when asked to.
        if data.endswith(LAST_CHUNK):
            self.leave(early=False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended.set()
        self._progress.set()

    async def reached(self, pieces: int) -> None:
        """Waits until so many pieces have arrived, or the answer has ended."""
        self._wanted = pieces
        if len(self.pieces) < pieces and not self._ended.is_set():
            self._progress.clear()
            await self._progress.wait()

    def leave(self, *, early: bool = True) -> None:
        """Closes the connection, as a client does that goes away."""
        self._left = self._left or early
        if self._transport is not None:
            self._transport.abort() if early else self._transport.close()

    async def finish(self, patience: float = PATIENCE) -> None:
        """Waits for the end; an answer that takes longer is hung up on, and so is an error."""
        try:
            await asyncio.wait_for(self._ended.wait(), patience)
        except TimeoutError:
            self.leave()
            self._left = False

    async def answer(self) -> Answer:
        await self.finish()
        return answer_of(self.sent, self.pieces, left=self._left)


async def start(endpoint: Endpoint, path: str, body: Mapping[str, Any]) -> Exchange:
    """Sends a request. Raises OSError where nobody takes the connection."""
    request = endpoint.request("POST", path, orjson.dumps({"model": endpoint.model, **body}))
    loop = asyncio.get_running_loop()
    _, exchange = await loop.create_connection(
        lambda: Exchange(request), endpoint.host, endpoint.port
    )
    return exchange


async def ask(endpoint: Endpoint, path: str, body: Mapping[str, Any]) -> Answer:
    """A whole answer, or one with an error; never raises for what a server does."""
    began = time.perf_counter()
    try:
        exchange = await start(endpoint, path, body)
    except OSError as error:
        return Answer(began, time.perf_counter(), status=0, error=f"no connection: {error}")
    return await exchange.answer()


async def get(endpoint: Endpoint, path: str) -> HttpAnswer:
    """Raises OSError, or BrokenAnswer, where there is no answer."""
    request = endpoint.request("GET", path)
    _, exchange = await asyncio.get_running_loop().create_connection(
        lambda: Exchange(request), endpoint.host, endpoint.port
    )
    await exchange.finish(QUICK)
    return read_answer(exchange.pieces)
