"""The layers around the routes, in the contract's order of checks."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from mlxsrv.api.access import Access
from mlxsrv.api.auth import Auth, Credentials
from mlxsrv.api.guard import Guard, Policy
from mlxsrv.api.lifecycle import Admission
from mlxsrv.api.limits import RateHeaders
from mlxsrv.api.services import Services
from mlxsrv.api.upload import STALL_SECONDS, BodyLimit


def wrap(app: ASGIApp, services: Services, *, stall_seconds: float = STALL_SECONDS) -> ASGIApp:
    """`app` behind all of them; each takes `http` and `websocket` scopes only."""
    api = services.settings.api
    inner: ASGIApp = BodyLimit(app, api, stall_seconds=stall_seconds)
    inner = Auth(inner, Credentials.of(api))
    inner = Guard(inner, Policy.of(api))
    inner = Admission(inner, services.lifecycle)
    if services.limiter.enabled:
        inner = RateHeaders(inner, services.limiter)
    outermost = Access(inner, services.requests)

    async def entry(scope: Scope, receive: Receive, send: Send) -> None:
        layer = app if scope["type"] == "lifespan" else outermost
        await layer(scope, receive, send)

    return entry
