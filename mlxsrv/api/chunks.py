"""Stream chunks with all but the delta serialised beforehand.

A chunk differs from the one before in a few characters, and there is one for every token of
every request: only those characters are encoded here.
"""

from __future__ import annotations

from typing import Any

import orjson

DONE = b"data: [DONE]\n\n"


class Chunks:
    """The chunks of one answer."""

    def __init__(
        self, *, id_: str, object_: str, created: int, model: str, include_usage: bool
    ) -> None:
        head = {"id": id_, "object": object_, "created": created, "model": model}
        self._head = b"data: " + orjson.dumps(head)[:-1] + b',"choices":['
        # Clients that did not ask for usage break on seeing the key before the last chunk.
        self._usage = b',"usage":null' if include_usage else b""
        self._end = b"]" + self._usage + b"}\n\n"

    def around(self, choice: int, before: bytes, after: bytes) -> tuple[bytes, bytes]:
        """What stands before and after a value that is put into `choice` between the two."""
        return (
            self._head + b'{"index":%d,' % choice + before,
            after + b"}" + self._end,
        )

    def choice(self, value: dict[str, Any], timings: Any = None) -> bytes:
        """A chunk of one choice; the last of an answer also says how fast it went."""
        end = self._end
        if timings is not None:
            end = b"]" + self._usage + b',"timings":' + orjson.dumps(timings) + b"}\n\n"
        return self._head + orjson.dumps(value) + end

    def usage(self, usage: Any, timings: Any) -> bytes:
        """The chunk without choices that ends an answer whose caller asked for it."""
        tail = orjson.dumps({"usage": usage, "timings": timings})[1:]
        return self._head + b"]," + tail + b"\n\n"
