"""Pydantic's findings in plain words, with the path of the field at fault."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlxsrv.core.errors import InvalidRequest

Path = tuple[str, ...]
Found = tuple[Path, str]

MAX_REASONS = 3
"""A union of many types gives a reason for each; more than a few help nobody."""

_PLAIN = {
    "missing": "is required",
    "extra_forbidden": "is not a known field",
    "string_type": "should be a string",
    "int_type": "should be an integer",
    "int_from_float": "should be an integer",
    "int_parsing": "should be an integer",
    "float_type": "should be a number",
    "float_parsing": "should be a number",
    "finite_number": "should be a finite number",
    "bool_type": "should be true or false",
    "bool_parsing": "should be true or false",
    "list_type": "should be a list",
    "tuple_type": "should be a list",
    "dict_type": "should be an object",
    "model_type": "should be an object",
    "model_attributes_type": "should be an object",
    "none_required": "should be null",
}


def invalid_request(errors: Sequence[Mapping[str, Any]], body: object) -> InvalidRequest:
    """The one finding that helps the caller most: the deepest that belongs to the first field
    at fault, since of a union's branches the one that fits best fails deepest."""
    found = [(field_path(error, body), reason(error)) for error in errors]
    path, reasons = _deepest(found)
    if not path:
        return InvalidRequest(f"The request body {reasons}")
    param = ".".join(path)
    return InvalidRequest(f"{param}: {reasons}", param=param)


def _deepest(found: Sequence[Found]) -> tuple[Path, str]:
    first = found[0][0][:1]
    rivals = [(path, text) for path, text in found if path[:1] == first]
    deepest = max(rivals, key=lambda rival: len(rival[0]))[0]
    reasons = list(dict.fromkeys(text for path, text in rivals if path == deepest))
    # "is not a known field" comes of a branch that was not meant when others say more.
    telling = [text for text in reasons if text != _PLAIN["extra_forbidden"]] or reasons
    return deepest, " or ".join(telling[:MAX_REASONS])


def field_path(error: Mapping[str, Any], body: object) -> Path:
    """The field's path within the body. Pydantic's own location also names the branches of
    unions it tried; those are not in the body, which is how they are told apart."""
    where, *rest = error["loc"] or ("body",)
    if where != "body":
        return tuple(str(part) for part in rest)
    path: list[str] = []
    here: Any = body
    for place, part in enumerate(rest):
        if _holds(here, part):
            here = here[part]
        elif not (place == len(rest) - 1 and error["type"] == "missing"):
            continue
        path.append(str(part))
    return tuple(path)


def _holds(here: object, part: int | str) -> bool:
    if isinstance(here, list):
        return isinstance(part, int) and 0 <= part < len(here)
    return isinstance(here, Mapping) and part in here


def reason(error: Mapping[str, Any]) -> str:
    """Why, as the second half of a sentence."""
    if error["type"] == "missing" and len(error["loc"]) == 1:
        return "is required: send a JSON object"
    if error["type"] in _PLAIN:
        return _PLAIN[error["type"]]
    message = str(error["msg"])
    for prefix in ("Value error, ", "Assertion failed, ", "Input "):
        message = message.removeprefix(prefix)
    return message
