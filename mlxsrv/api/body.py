"""Strict JSON bodies, whatever the Content-Type that careless clients give them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Coroutine
from typing import Any

import orjson
from fastapi import params
from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response

from mlxsrv.api.scopes import state_of
from mlxsrv.core.errors import InvalidRequest, UnsupportedMedia

MAX_DEPTH = 64
"""Deep enough for any schema in use, and far from the interpreter's own limit."""

_JSON_TYPE = re.compile(r"(application|text)/([\w.+-]+\+)?json|text/plain")
_CURLS_DEFAULT = "application/x-www-form-urlencoded"
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class StrictRoute(APIRoute):
    """Route class that reads and checks a JSON body before FastAPI validates its fields.

    The content type is rewritten because FastAPI leaves other types than JSON unparsed.
    """

    def get_route_handler(self) -> Handler:
        handle = super().get_route_handler()
        field = self.body_field
        if field is None or isinstance(field.field_info, params.Form):
            return handle

        async def strict(request: Request) -> Response:
            checked = await _Checked.of(request)
            return await handle(checked)

        return strict


class _Checked(Request):
    """A request whose body has been read and is known to be a JSON object."""

    raw: bytes
    value: dict[str, Any]

    @classmethod
    async def of(cls, request: Request) -> _Checked:
        value = await read_object(request)
        state_of(request.scope)  # made before the scope is copied, so that both share it
        headers = [pair for pair in request.headers.raw if pair[0] != b"content-type"]
        headers.append((b"content-type", b"application/json"))
        checked = cls({**request.scope, "headers": headers}, request.receive)
        checked.raw = await request.body()
        checked.value = value
        return checked

    async def body(self) -> bytes:
        return self.raw

    async def json(self) -> Any:
        return self.value


async def read_object(request: Request) -> dict[str, Any]:
    """The body as a JSON object. Raises UnsupportedMedia and InvalidRequest."""
    check_media_type(request.headers)
    return parse_object(await request.body())


def check_media_type(headers: Headers) -> None:
    """Raises UnsupportedMedia unless the type is JSON or says nothing about it."""
    given = headers.get("content-type", "")
    kind = given.partition(";")[0].strip().lower()
    if kind in {"", _CURLS_DEFAULT} or _JSON_TYPE.fullmatch(kind):
        return
    raise UnsupportedMedia(f"Content-Type {kind!r} is not served here: send application/json")


def parse_object(body: bytes) -> dict[str, Any]:
    """Parses strictly: UTF-8, finite numbers, no key twice, no lone surrogates, bounded depth.

    Raises InvalidRequest that says what is wrong and where.
    """
    if not body.strip():
        raise _invalid("The request body is empty: send a JSON object")
    value = _parse(body)
    _check_surrogates(body)
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH:
        _check_depth(value)
    if not isinstance(value, dict):
        raise _invalid(f"The request body should be a JSON object, not {_kind_of(value)}")
    return value


def _parse(body: bytes) -> Any:
    odd: list[str] = []

    def number(literal: str) -> float:
        value = float(literal)
        if not math.isfinite(value):
            odd.append(literal)
        return value

    try:
        value = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=number,
            parse_float=number,
        )
    except UnicodeDecodeError as error:
        raise _invalid(f"The request body is not valid UTF-8 (at byte {error.start})") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise _invalid(f"The request body is not valid JSON: {error.msg} ({where})") from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError:  # an integer of thousands of digits
        raise _invalid("The request body holds a number that is too long") from None
    if odd:
        path = _path_to_odd(value)
        raise InvalidRequest(f"{path or 'body'}: {odd[0]} is not a finite number", param=path)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidRequest(f"{twice}: is given twice", param=twice, code="invalid_json")
    return found


def _path_to_odd(value: Any) -> str | None:
    """The path of the first number that is not finite."""
    stack: list[tuple[tuple[str, ...], Any]] = [((), value)]
    while stack:
        path, here = stack.pop()
        if isinstance(here, float) and not math.isfinite(here):
            return ".".join(path) or None
        children: list[tuple[Any, Any]] = []
        if isinstance(here, dict):
            children = list(here.items())
        elif isinstance(here, list):
            children = list(enumerate(here))
        stack.extend(((*path, str(name)), child) for name, child in reversed(children))
    return None


def _check_surrogates(body: bytes) -> None:
    if not _SURROGATE.search(body):
        return
    try:
        orjson.loads(body)  # alone among the fast parsers it refuses half a surrogate pair
    except orjson.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise _invalid(f"The request body holds half a surrogate pair ({where})") from None


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for here in level
            for child in (here.values() if isinstance(here, dict) else here)
            if isinstance(child, dict | list)
        ]
        if not level:
            return
    raise _too_deep()


def _too_deep() -> InvalidRequest:
    return _invalid(f"The request body is nested deeper than {MAX_DEPTH} levels")


def _invalid(message: str) -> InvalidRequest:
    return InvalidRequest(message, code="invalid_json")


def _kind_of(value: Any) -> str:
    kinds = {list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return kinds.get(type(value), "a number")
