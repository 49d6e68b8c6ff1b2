"""The small JSON files of a model folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mlxsrv.core.errors import LoadError

MAX_BYTES = 64_000_000


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object in `file`. Raises LoadError where it is not readable, or none."""
    value = read_value(file)
    if not isinstance(value, dict):
        raise LoadError(f"{file} should hold a JSON object")
    return value


def read_value(file: Path) -> Any:
    """Whatever JSON is in `file`. Raises LoadError."""
    try:
        if file.stat().st_size > MAX_BYTES:
            raise LoadError(f"{file} is too large to be a configuration")
        return json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise LoadError(f"can't read {file}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise LoadError(f"{file} is not valid JSON: {error}") from error


def read_optional(file: Path) -> dict[str, Any]:
    """The JSON object in `file`, empty where there is no such file. Raises LoadError."""
    return read_object(file) if file.exists() else {}
