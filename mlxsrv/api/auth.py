"""The API key, and HTTP Basic for the web UI."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from mlxsrv.api.errors import error_response
from mlxsrv.api.scopes import header, refuse, state_of
from mlxsrv.config.settings import ApiSettings
from mlxsrv.core.errors import Unauthenticated

KEY_IDENTITY = "key"
UI_IDENTITY = "ui"

OPEN_PATHS = frozenset({"/health"})
TOPOLOGY = "/api/v1/topology"
BASIC_CHALLENGE = 'Basic realm="mlxsrv", charset="UTF-8"'


def is_ui(path: str) -> bool:
    """Whether `path` is one of the web UI's files."""
    return path in {"/", "/favicon.ico"} or path.startswith("/ui/")


def _digest(secret: bytes) -> bytes:
    # Of equal length, so that the comparison does not tell the key's.
    return hashlib.sha256(secret).digest()


@dataclass(frozen=True, slots=True)
class Credentials:
    """What callers must show; None where nothing is asked for."""

    key: bytes | None
    ui: bytes | None

    @classmethod
    def of(cls, api: ApiSettings) -> Credentials:
        key = api.api_key.get_secret_value().encode() if api.api_key else None
        ui = api.ui_auth.get_secret_value().encode() if api.ui_auth else None
        return cls(key=_digest(key) if key else None, ui=_digest(ui) if ui else None)

    def has_key(self, scope: Scope) -> bool:
        given = _scheme(scope, b"bearer"), header(scope, b"x-api-key")
        return self.key is not None and any(
            hmac.compare_digest(_digest(secret), self.key) for secret in given if secret is not None
        )

    def has_ui(self, scope: Scope) -> bool:
        given = _scheme(scope, b"basic")
        if self.ui is None or given is None:
            return False
        try:
            pair = base64.b64decode(given, validate=True)
        except binascii.Error:
            return False
        return hmac.compare_digest(_digest(pair), self.ui)


def _scheme(scope: Scope, name: bytes) -> bytes | None:
    """What follows `name` in the Authorization header."""
    scheme, _, secret = (header(scope, b"authorization") or b"").partition(b" ")
    return secret.strip() if scheme.lower() == name else None


class Auth:
    """Middleware: 401 without the right key, and notes whose allowance a request uses."""

    def __init__(self, app: ASGIApp, credentials: Credentials) -> None:
        self.app = app
        self.credentials = credentials

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if self.credentials.has_key(scope):
            state_of(scope)["identity"] = KEY_IDENTITY
        elif self.credentials.has_ui(scope):
            state_of(scope)["identity"] = UI_IDENTITY
        if self._admits(path, state_of(scope).get("identity")):
            await self.app(scope, receive, send)
            return
        challenges = {}
        if self.credentials.ui is not None and (is_ui(path) or path == TOPOLOGY):
            challenges = {"WWW-Authenticate": BASIC_CHALLENGE}
        response = error_response(path, Unauthenticated(_what_is_wrong(scope)), challenges)
        await refuse(scope, receive, send, response)

    def _admits(self, path: str, identity: str | None) -> bool:
        key, ui = self.credentials.key, self.credentials.ui
        if path in OPEN_PATHS:
            return True
        if is_ui(path):
            return ui is None or identity == UI_IDENTITY
        if path == TOPOLOGY:
            return (key is None and ui is None) or identity is not None
        return key is None or identity == KEY_IDENTITY


def _what_is_wrong(scope: Scope) -> str:
    if header(scope, b"authorization") is None and header(scope, b"x-api-key") is None:
        return "No API key was given: send it as 'Authorization: Bearer KEY'"
    return "The API key is not the right one"
