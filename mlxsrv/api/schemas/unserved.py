"""Fields that would change the result and are not served: refused by name, never dropped."""

from __future__ import annotations

from typing import Any

from mlxsrv.core.errors import InvalidRequest, Unsupported

_NO_TOOLS = frozenset({"none", "auto"})


def refuse(field: str, what: str = "this field") -> Unsupported:
    return Unsupported(f"{field}: {what} is not supported by this server", param=field)


def refuse_if_asked(field: str, value: Any) -> None:
    """For a field whose every value but null asks for something. Raises Unsupported."""
    if value is not None:
        raise refuse(field)


def refuse_items(field: str, value: Any) -> None:
    """For a list that may be empty. Raises InvalidRequest, Unsupported."""
    if value is None:
        return
    if not isinstance(value, list):
        raise InvalidRequest(f"{field}: should be a list", param=field)
    if value:
        raise refuse(field)


def refuse_forced_tool(field: str, value: Any) -> None:
    """Without tools, `none` and `auto` ask for nothing. Raises InvalidRequest, Unsupported."""
    if value is None or (isinstance(value, str) and value in _NO_TOOLS):
        return
    if not isinstance(value, str | dict):
        raise InvalidRequest(f"{field}: should be a string or an object", param=field)
    raise refuse(field)


def refuse_formats(field: str, value: Any) -> None:
    """Plain text is the one format. Raises InvalidRequest, Unsupported."""
    if value is None:
        return
    if not isinstance(value, dict):
        raise InvalidRequest(f"{field}: should be an object", param=field)
    kind = value.get("type")
    if not isinstance(kind, str):
        raise InvalidRequest(f"{field}.type: should be a string", param=f"{field}.type")
    if kind != "text":
        raise refuse(field)


def refuse_modalities(field: str, value: Any) -> None:
    """Answers are text. Raises InvalidRequest, Unsupported."""
    if value is None:
        return
    if not isinstance(value, list):
        raise InvalidRequest(f"{field}: should be a list", param=field)
    for place, item in enumerate(value):
        if item == "text":
            continue
        path = f"{field}.{place}"
        if item == "audio":
            raise refuse(field)
        raise InvalidRequest(f"{path}: should be 'text' or 'audio'", param=path)
