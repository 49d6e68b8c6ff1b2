"""Multipart bodies (RFC 7578), sent as their files are read."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterable, Iterator
from functools import partial
from typing import BinaryIO

BLOCK_BYTES = 1 << 20


class Form:
    """One body, whose length is known before its files are read: when it is iterated over."""

    def __init__(self, fields: Iterable[tuple[str, str]]) -> None:
        self._boundary = secrets.token_hex(16)
        self._length = 0
        self._parts: list[bytes | BinaryIO] = []
        for name, value in fields:
            self._say(self._head(name) + f"\r\n\r\n{value}\r\n")

    def add(self, name: str, file_name: str, file: BinaryIO) -> None:
        safe = re.sub(r'[\r\n"]', "_", file_name)
        self._say(self._head(name) + f'; filename="{safe}"\r\n\r\n')
        self._length += os.fstat(file.fileno()).st_size
        self._parts.append(file)
        self._say("\r\n")

    @property
    def headers(self) -> dict[str, str]:
        return {
            "Content-Type": f"multipart/form-data; boundary={self._boundary}",
            "Content-Length": str(self._length + len(self._end)),
        }

    def __iter__(self) -> Iterator[bytes]:
        for part in self._parts:
            if isinstance(part, bytes):
                yield part
            else:
                yield from iter(partial(part.read, BLOCK_BYTES), b"")
        yield self._end

    @property
    def _end(self) -> bytes:
        return f"--{self._boundary}--\r\n".encode()

    def _head(self, name: str) -> str:
        return f'--{self._boundary}\r\nContent-Disposition: form-data; name="{name}"'

    def _say(self, text: str) -> None:
        part = text.encode("utf-8", "replace")
        self._parts.append(part)
        self._length += len(part)
