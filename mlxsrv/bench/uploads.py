"""Files that are sent as forms."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from pathlib import Path

from mlxsrv.bench.answer import OK
from mlxsrv.bench.client import PATIENCE, Endpoint, Exchange
from mlxsrv.bench.http1 import BrokenAnswer, read_answer
from mlxsrv.bench.keepalive import Refused


def form(fields: Mapping[str, str], file: Path) -> tuple[str, bytes]:
    """A multipart body and its media type."""
    boundary = secrets.token_hex(16)
    opening = f"--{boundary}\r\nContent-Disposition: form-data; name="
    parts = [f'{opening}"{name}"\r\n\r\n{value}\r\n' for name, value in fields.items()]
    head = f'{opening}"file"; filename="{file.name}"\r\n\r\n'
    end = f"\r\n--{boundary}--\r\n"
    body = "".join([*parts, head]).encode() + file.read_bytes() + end.encode()
    return f"multipart/form-data; boundary={boundary}", body


async def start(endpoint: Endpoint, path: str, fields: Mapping[str, str], file: Path) -> Exchange:
    """Sends a file; `fields` may name another model than the endpoint's.

    Raises OSError where nobody takes the connection.
    """
    content_type, body = form({"model": endpoint.model, **fields}, file)
    request = endpoint.request("POST", path, body, content_type=content_type)
    _, exchange = await asyncio.get_running_loop().create_connection(
        lambda: Exchange(request), endpoint.host, endpoint.port
    )
    return exchange


async def upload(
    endpoint: Endpoint, path: str, fields: Mapping[str, str], file: Path, patience: float = PATIENCE
) -> bytes:
    """The body of a good answer. Raises Refused, OSError."""
    exchange = await start(endpoint, path, fields, file)
    await exchange.finish(patience)
    try:
        answer = read_answer(exchange.pieces)
    except BrokenAnswer as error:
        raise Refused(0, str(error).encode()) from error
    if answer.status != OK or not answer.complete:
        raise Refused(answer.status, answer.content)
    return answer.content
