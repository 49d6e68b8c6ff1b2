"""Structured logs: one line a record, `key=value`, with the id of the request it belongs to.

What a request contains never goes into a log line: prompts are private.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from typing import Any, TextIO

from mlxsrv.api.ids import request_id

_PLAIN = re.compile(r"[\w./:@+\-]+")
_QUIET = ("uvicorn", "uvicorn.error", "uvicorn.access", "asyncio", "httpx", "httpcore")
"""Loggers whose routine lines say nothing that ours don't."""


class KeyValueFormatter(logging.Formatter):
    """`ts=… level=… logger=… request_id=… msg="…" key=value …`, then a traceback if any."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        pairs: dict[str, Any] = {
            "ts": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        if (current := request_id.get()) != "-":
            pairs["request_id"] = current
        pairs["msg"] = record.getMessage()
        pairs.update(getattr(record, "fields", {}))
        line = " ".join(f"{key}={_quoted(value)}" for key, value in pairs.items())
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def _quoted(value: object) -> str:
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    # JSON's quoting also keeps line breaks of hostile paths and headers out of the log.
    return text if _PLAIN.fullmatch(text) else json.dumps(text)


def setup_logging(level: str = "info", stream: TextIO | None = None) -> None:
    """Sends every logger's lines to `stream` (standard error) in one form; may be repeated."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(KeyValueFormatter())
    root = logging.getLogger()
    for old in [h for h in root.handlers if isinstance(h.formatter, KeyValueFormatter)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in _QUIET:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(max(logging.WARNING, root.level))
    # Our own access line takes its place.
    logging.getLogger("uvicorn.access").disabled = True
