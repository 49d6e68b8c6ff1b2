"""The one place where an exception becomes a status code and an envelope.

Three dialects by path: OpenAI's envelope, Anthropic's (the same with a top-level `type`)
under `/v1/messages`, and a bare `{"error": text}` under `/api/v1/` and `/inference`.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from mlxsrv.api.validation import invalid_request
from mlxsrv.core import errors as e

logger = logging.getLogger(__name__)

CLIENT_GONE = 499
"""What the log says of a request whose client left before the answer (nginx's number)."""

STATUS: dict[type[Exception], int] = {
    e.InvalidRequest: 400,
    e.Unauthenticated: 401,
    e.Forbidden: 403,
    e.NotFound: 404,
    e.MethodNotAllowed: 405,
    e.Conflict: 409,
    e.TooLarge: 413,
    e.UnsupportedMedia: 415,
    e.RateLimited: 429,
    e.Unavailable: 503,
    e.GenerationFailed: 500,
    e.CheckpointRefused: 400,
    e.HubUnreachable: 404,
    e.MlxsrvError: 500,
}

_TYPE = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "overloaded_error",
}
_ANTHROPIC_TYPE = {413: "request_too_large", 500: "api_error"}

_HTTP_ERRORS: dict[int, type[e.MlxsrvError]] = {
    400: e.InvalidRequest,
    401: e.Unauthenticated,
    403: e.Forbidden,
    404: e.NotFound,
    409: e.Conflict,
    413: e.TooLarge,
    415: e.UnsupportedMedia,
    429: e.RateLimited,
    503: e.Unavailable,
}

_OPAQUE = (e.LoadError, e.ConfigError)
"""Their messages are for whoever runs the server: as a 500 they could name its folders."""


class ClientGone(HTTPException):
    """The client closed the connection before its answer was ready; nobody reads what follows.

    An HTTPException because that is what passes through a framework's body parsing unchanged.
    """

    def __init__(self) -> None:
        super().__init__(CLIENT_GONE)


class BodyRejected(HTTPException):
    """Carries one of our errors out of a body that is being read by a framework."""

    def __init__(self, error: e.MlxsrvError) -> None:
        super().__init__(status_of(error), error.message)
        self.error = error


def status_of(error: Exception) -> int:
    for ancestor in type(error).__mro__:
        if ancestor in STATUS:
            return STATUS[ancestor]
    return 500


def envelope(path: str, error: Exception) -> dict[str, Any]:
    """The body of the answer to a request for `path` that failed with `error`."""
    status = status_of(error)
    message, param, code = _public(error, status)
    if speaks_plainly(path):
        return {"error": message}
    kind = _TYPE.get(status, "invalid_request_error")
    if not speaks_anthropic(path):
        return {"error": {"message": message, "type": kind, "param": param, "code": code}}
    kind = _ANTHROPIC_TYPE.get(status, kind)
    return {
        "type": "error",
        "error": {"type": kind, "message": message, "param": param, "code": code},
    }


def _public(error: Exception, status: int) -> tuple[str, str | None, str | None]:
    if isinstance(error, e.MlxsrvError) and not (status == 500 and isinstance(error, _OPAQUE)):
        return error.message, error.param, error.code
    if isinstance(error, e.LoadError):
        return "The model could not be loaded; the server's log says why", None, error.code
    return "The server failed to answer this request", None, "internal_error"


def speaks_plainly(path: str) -> bool:
    return path.startswith("/api/v1/") or path in {"/api/v1", "/inference"}


def speaks_anthropic(path: str) -> bool:
    return path == "/v1/messages" or path.startswith("/v1/messages/")


def error_response(
    path: str, error: Exception, headers: Mapping[str, str] | None = None
) -> Response:
    """The whole answer, `Retry-After` and `WWW-Authenticate` included."""
    status = status_of(error)
    extra: dict[str, str] = {}
    if status == 401:
        extra["WWW-Authenticate"] = "Bearer"
    elif status in {429, 503}:
        extra["Retry-After"] = str(_whole_seconds(getattr(error, "retry_after", None)))
    return JSONResponse(envelope(path, error), status, {**extra, **(headers or {})})


def _whole_seconds(seconds: float | None) -> int:
    return max(1, math.ceil(seconds)) if seconds is not None else 1


def error_event(path: str, error: Exception) -> bytes:
    """The error as the last event of a stream; Anthropic's SDK goes by the event's name."""
    name = b"event: error\n" if speaks_anthropic(path) else b""
    text = json.dumps(envelope(path, error), ensure_ascii=False, separators=(",", ":"))
    return name + b"data: " + text.encode("utf-8", "replace") + b"\n\n"


def install(app: FastAPI) -> None:
    """Makes every failure inside `app` answer in the envelope."""
    app.add_exception_handler(e.MlxsrvError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    app.add_exception_handler(Exception, _on_error)


async def _on_error(request: Request, error: Exception) -> Response:
    if status_of(error) == 500 and isinstance(error, e.MlxsrvError):
        # Other exceptions travel on to the outermost layer, which logs them with their stack.
        logger.error("request failed: %s", error.message, exc_info=error)
    return error_response(request.url.path, error)


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return error_response(request.url.path, invalid_request(error.errors(), error.body))


async def _on_disconnect(request: Request, error: Exception) -> Response:
    return Response(status_code=CLIENT_GONE)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if isinstance(error, ClientGone):
        return Response(status_code=CLIENT_GONE)
    if isinstance(error, BodyRejected):
        return error_response(request.url.path, error.error, error.headers)
    return error_response(request.url.path, _translated(request, error), error.headers)


def _translated(request: Request, error: HTTPException) -> e.MlxsrvError:
    """The framework's own refusals, which say little more than their status."""
    route = f"{request.method} {request.url.path}"
    if error.status_code == 404 and error.detail in {"Not Found", ""}:
        return e.NotFound(f"Unknown route: {route}", code="unknown_url")
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow")
        hint = f" (allowed: {allowed})" if allowed else ""
        return e.MethodNotAllowed(f"Method not allowed: {route}{hint}")
    kind = _HTTP_ERRORS.get(error.status_code)
    if kind is None:
        kind = e.InvalidRequest if error.status_code < 500 else e.MlxsrvError
    return kind(str(error.detail))
