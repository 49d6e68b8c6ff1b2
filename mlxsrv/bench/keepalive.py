"""A connection that is used for one request after another, as the clients' libraries do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson

from mlxsrv.bench.answer import OK
from mlxsrv.bench.client import PATIENCE, Endpoint
from mlxsrv.core.errors import MlxsrvError

LARGEST_HEAD = 1 << 16


class Refused(MlxsrvError):
    """A server answered with anything but 200; `status` is 0 where it did not answer."""

    def __init__(self, status: int, content: bytes) -> None:
        super().__init__(f"HTTP {status}: {content[:300].decode('utf-8', 'replace')}")
        self.status = status


@dataclass(frozen=True, slots=True)
class Connection:
    """Answers have to tell their length."""

    endpoint: Endpoint
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def post(self, path: str, body: Mapping[str, Any], patience: float = PATIENCE) -> bytes:
        """The body of a good answer. Raises Refused."""
        request = self.endpoint.request("POST", path, orjson.dumps(body), keep=True)
        try:
            self.writer.write(request)
            async with asyncio.timeout(patience):
                status, content = await self._answer()
        except TimeoutError:
            raise Refused(0, b"no answer in time") from None
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            raise Refused(0, str(error).encode()) from error
        if status != OK:
            raise Refused(status, content)
        return content

    async def _answer(self) -> tuple[int, bytes]:
        head = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = head.lower().split(b"\r\n")
        named = dict(line.split(b":", 1) for line in lines if line)
        length = int(named.get(b"content-length", b"0"))
        return int(first.split(b" ", 2)[1]), await self.reader.readexactly(length)


@asynccontextmanager
async def connect(endpoint: Endpoint) -> AsyncIterator[Connection]:
    """Raises OSError where nobody takes the connection."""
    reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port, limit=LARGEST_HEAD)
    try:
        yield Connection(endpoint, reader, writer)
    finally:
        writer.close()


async def post(endpoint: Endpoint, path: str, body: Mapping[str, Any]) -> Any:
    """What a single request is answered with. Raises OSError, Refused."""
    async with connect(endpoint) as connection:
        return orjson.loads(await connection.post(path, body))
