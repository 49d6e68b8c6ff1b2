"""Reads an HTTP/1.1 answer out of the pieces it came in, keeping when each came; pure.

The load generator shares the machine with what it measures, so while an answer arrives it
only notes the pieces. All parsing is done here, afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from mlxsrv.core.errors import MlxsrvError

Piece = tuple[float, bytes]
"""Seconds, and what arrived then."""

LAST_CHUNK = b"\r\n0\r\n\r\n"


class BrokenAnswer(MlxsrvError):
    """What arrived is not a whole HTTP answer."""


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """Status and body, the body in pieces. `complete` says that no part of it is missing."""

    status: int
    headers: dict[str, str]
    body: tuple[Piece, ...]
    complete: bool

    @property
    def content(self) -> bytes:
        return b"".join(data for _, data in self.body)


def read_answer(pieces: Iterable[Piece]) -> HttpAnswer:
    """Raises BrokenAnswer where not even the head is there, or chunks are malformed."""
    head, follows = _split_head(iter(pieces))
    status, headers = _read_head(head)
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return _chunked(status, headers, follows)
    body = tuple(follows)
    length = headers.get("content-length")
    arrived = sum(len(data) for _, data in body)
    return HttpAnswer(status, headers, body, length is None or arrived == int(length))


def _split_head(pieces: Iterator[Piece]) -> tuple[bytes, Iterator[Piece]]:
    """The head without the empty line that ends it, and the pieces that follow."""
    arrived = b""
    for when, data in pieces:
        arrived += data
        head, end, begun = arrived.partition(b"\r\n\r\n")
        if end:
            return head, chain([(when, begun)] if begun else [], pieces)
    raise BrokenAnswer("the connection ended before an answer")


def _read_head(raw: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = raw.decode("latin-1").split("\r\n")
    parts = first.split(" ", 2)
    if len(parts) < 2 or not parts[0].startswith("HTTP/1.") or not parts[1].isdecimal():
        raise BrokenAnswer(f"not an HTTP answer: {first[:80]!r}")
    named = (line.partition(":") for line in lines)
    return int(parts[1]), {name.strip().lower(): value.strip() for name, _, value in named}


def _chunked(status: int, headers: dict[str, str], pieces: Iterator[Piece]) -> HttpAnswer:
    """A chunk counts as arrived when its last byte is there."""
    body: list[Piece] = []
    waiting = b""
    for when, data in pieces:
        waiting += data
        while (found := _first_chunk(waiting)) is not None:
            content, waiting = found
            if not content:
                return HttpAnswer(status, headers, tuple(body), True)
            body.append((when, content))
    return HttpAnswer(status, headers, tuple(body), False)


def _first_chunk(waiting: bytes) -> tuple[bytes, bytes] | None:
    """(content, what follows it) of the first chunk, once all of it is there."""
    line, end, rest = waiting.partition(b"\r\n")
    if not end:
        return None
    try:
        size = int(line.partition(b";")[0], 16)
    except ValueError:
        raise BrokenAnswer(f"not the size of a chunk: {line[:20]!r}") from None
    if len(rest) < size + 2:
        return None
    return rest[:size], rest[size + 2 :]
