"""Request ids: the caller's own where it is fit to be logged, else a new one."""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar

MAX_LENGTH = 64

_FIT = re.compile(rb"[\x21-\x7e]{1,%d}" % MAX_LENGTH)

request_id: ContextVar[str] = ContextVar("request_id", default="-")
"""The id of the request being served; every log line made inside it carries it."""


def choose(given: bytes | None) -> str:
    """`given` when it is short printable ASCII without spaces, else a fresh id."""
    if given is not None and _FIT.fullmatch(given):
        return given.decode("ascii")
    return f"req_{secrets.token_hex(12)}"
