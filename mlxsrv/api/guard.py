"""Who a browser may speak for: Host and Origin checks, and CORS.

A page from anywhere can make its visitor's browser send requests to a local server. Its
`Origin` gives it away; and where its author points a DNS name at 127.0.0.1 to become
"same-origin" (DNS rebinding), the `Host` does.
"""

from __future__ import annotations

from dataclasses import dataclass

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from mlxsrv.api.errors import error_response
from mlxsrv.api.scopes import HeaderList, adding_headers, header, refuse
from mlxsrv.config.settings import ApiSettings, is_loopback, split_address
from mlxsrv.core.errors import Forbidden

EXPOSED = ", ".join(
    (
        "x-request-id",
        "x-voice",
        "retry-after",
        *(
            f"x-ratelimit-{which}-{what}"
            for what in ("requests", "tokens")
            for which in ("limit", "remaining", "reset")
        ),
    )
)
METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
PREFLIGHT_SECONDS = "600"

_DEFAULT_PORTS = {"http": "80", "https": "443", "ws": "80", "wss": "443"}


@dataclass(frozen=True, slots=True)
class Policy:
    """Which hosts and origins may call; `hosts` is None where any Host will do."""

    hosts: frozenset[str] | None
    origins: frozenset[str]

    @classmethod
    def of(cls, api: ApiSettings) -> Policy:
        """Origins alone switch CORS on; an explicit `cors_enabled = false` switches it off."""
        bound, _ = split_address(api.address)
        hosts = frozenset(host.lower() for host in api.allowed_hosts)
        off = not api.cors_enabled and "cors_enabled" in api.model_fields_set
        origins = () if off else api.cors_origins
        return cls(
            hosts=hosts if is_loopback(bound) else None,
            origins=frozenset(origin.lower().rstrip("/") for origin in origins),
        )

    def allows_host(self, host: str) -> bool:
        if self.hosts is None or "*" in self.hosts:
            return True
        name, _ = split_host(host)
        return is_loopback(name) or name in self.hosts or host.lower() in self.hosts

    def allows_origin(self, origin: str) -> bool:
        return "*" in self.origins or origin.lower() in self.origins


def split_host(host: str) -> tuple[str, str]:
    """A `Host` header as name (lower case, without brackets or final dot) and port or ""."""
    host = host.strip().lower()
    if host.startswith("["):
        name, _, rest = host[1:].partition("]")
        return name, rest.removeprefix(":")
    name, _, port = host.partition(":")
    return name.removesuffix("."), port


def same_origin(origin: str, host: str) -> bool:
    """Whether the page at `origin` was served by this very `host`."""
    scheme, separator, place = origin.partition("://")
    default = _DEFAULT_PORTS.get(scheme.lower())
    if not separator or default is None:
        return False  # "null" among them: sandboxed frames and local files
    name, port = split_host(place)
    served, served_port = split_host(host)
    return (name, port or default) == (served, served_port or default)


class Guard:
    """Middleware: 403 for foreign hosts and origins; answers preflights; adds CORS headers."""

    def __init__(self, app: ASGIApp, policy: Policy) -> None:
        self.app = app
        self.policy = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        hosts = [value.decode("latin-1") for key, value in scope["headers"] if key == b"host"]
        host = hosts[0] if hosts else ""
        if len(hosts) > 1 or (hosts and not self.policy.allows_host(host)):
            message = f"Host {host!r} is not served here (allowed_hosts lists further names)"
            await self._refuse(scope, receive, send, message)
            return
        given = header(scope, b"origin")
        if given is None:
            await self.app(scope, receive, send)
            return
        origin = given.decode("latin-1")
        listed = self.policy.allows_origin(origin)
        if not listed and not same_origin(origin, host):
            message = f"Requests from origin {origin!r} are not allowed (see cors_origins)"
            await self._refuse(scope, receive, send, message)
            return
        if listed:
            send = adding_headers(send, lambda: _cors_headers(given))
        if _is_preflight(scope):
            await _preflight(scope)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send, message: str) -> None:
        response = error_response(scope["path"], Forbidden(message))
        if self.policy.origins:
            response.headers["Vary"] = "Origin"
        await refuse(scope, receive, send, response)


def _cors_headers(origin: bytes) -> HeaderList:
    return [
        (b"access-control-allow-origin", origin),
        (b"access-control-expose-headers", EXPOSED.encode()),
        (b"vary", b"Origin"),
    ]


def _is_preflight(scope: Scope) -> bool:
    asked = header(scope, b"access-control-request-method")
    return scope["type"] == "http" and scope["method"] == "OPTIONS" and asked is not None


def _preflight(scope: Scope) -> Response:
    headers = {
        "Access-Control-Allow-Methods": METHODS,
        "Access-Control-Max-Age": PREFLIGHT_SECONDS,
    }
    asked = header(scope, b"access-control-request-headers")
    if asked is not None:
        headers["Access-Control-Allow-Headers"] = asked.decode("latin-1")
    if header(scope, b"access-control-request-private-network") == b"true":
        headers["Access-Control-Allow-Private-Network"] = "true"
    return Response(status_code=204, headers=headers)
