"""The outermost layer: request ids, one log line a request, and the count of requests."""

from __future__ import annotations

import logging
import time

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from mlxsrv.api.errors import CLIENT_GONE, error_response
from mlxsrv.api.ids import choose, request_id
from mlxsrv.api.scopes import Sending, adding_headers, header, state_of
from mlxsrv.core.meters import RequestMeters

UNMATCHED = "unmatched"
NOTED = ("model", "prompt_tokens", "completion_tokens", "stream_error")

logger = logging.getLogger("mlxsrv.access")


def note(request: Request, **fields: str | int) -> None:
    """For handlers: adds `model`, `prompt_tokens` or `completion_tokens` to the log line."""
    state_of(request.scope).update(fields)


class Access:
    """Middleware: answers even where everything inside it failed, and says what happened."""

    def __init__(self, app: ASGIApp, meters: RequestMeters) -> None:
        self.app = app
        self.meters = meters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        scope["state"] = dict(scope.get("state", {}))
        name = choose(header(scope, b"x-request-id"))
        state_of(scope)["request_id"] = name
        token = request_id.set(name)
        sending = Sending(adding_headers(send, lambda: [(b"x-request-id", name.encode())]))
        try:
            await self.app(scope, receive, sending)
        except Exception as error:
            logger.exception("unhandled error")
            if scope["type"] == "http" and not sending.started:
                await error_response(scope["path"], error)(scope, receive, sending)
        finally:
            self._finish(scope, sending, time.perf_counter() - started)
            request_id.reset(token)

    def _finish(self, scope: Scope, sending: Sending, seconds: float) -> None:
        state = state_of(scope)
        status = CLIENT_GONE if state.get("client_gone") else sending.status or CLIENT_GONE
        route = route_of(scope)
        self.meters.finished[route, status] += 1
        fields = {
            "method": scope.get("method", "WEBSOCKET"),
            "route": route,
            "status": status,
            "duration_ms": seconds * 1000,
        }
        if route == UNMATCHED:
            fields["path"] = scope["path"]
        fields.update({name: state[name] for name in NOTED if name in state})
        level = logging.DEBUG if route in _ROUTINE and status < 500 else logging.INFO
        logger.log(level, "request", extra={"fields": fields})


_ROUTINE = frozenset({"/health", "/metrics", "/v1/metrics"})
"""Asked every few seconds by monitors."""


def route_of(scope: Scope) -> str:
    """The route's template, not the path: labels must stay few however many paths are tried."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else UNMATCHED
