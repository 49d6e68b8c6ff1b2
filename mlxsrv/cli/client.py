"""Talks to a running server."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mlxsrv.cli.form import Form
from mlxsrv.config.settings import Settings, split_address
from mlxsrv.core.errors import MlxsrvError

QUICK_SECONDS = 5.0
ANSWER_SECONDS = 600.0
BLOCK_BYTES = 1 << 20
_ANY_HOST = {"0.0.0.0": "127.0.0.1", "::": "::1"}


class ServerAbsent(MlxsrvError):
    """Nothing that speaks HTTP answers at the address."""


class ServerRefused(MlxsrvError):
    """The server answered with an error; `status` is its HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def url_of(settings: Settings) -> str:
    """Where a server with these settings can be reached from this machine."""
    host, port = split_address(settings.api.address)
    host = _ANY_HOST.get(host, host)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


class Client:
    """One server's address and key. Every call opens a connection of its own."""

    def __init__(self, url: str, api_key: str | None = None) -> None:
        self.url = url.rstrip("/")
        self.api_key = api_key
        self._headers = {"Content-Type": "application/json"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"

    def get(self, path: str, *, accept: frozenset[int] = frozenset()) -> Any:
        """JSON of a GET. Raises ServerAbsent; ServerRefused for a status not in `accept`."""
        return self._json(self._connect(QUICK_SECONDS), "GET", path, accept=accept)

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """JSON of a POST, however long it takes. Raises ServerAbsent or ServerRefused."""
        return self._json(self._connect(None), "POST", path, json.dumps(body))

    def _json(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: str = "",
        accept: frozenset[int] = frozenset(),
    ) -> Any:
        try:
            response = self._send(connection, method, path, body)
            if response.status not in accept:
                _require_ok(response)
            return json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ServerAbsent(f"no mlxsrv answers at {self.url}: {error}") from error
        finally:
            connection.close()

    def stream(self, path: str, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The events of a streamed answer. Raises ServerAbsent or ServerRefused."""
        connection = self._connect(ANSWER_SECONDS)
        try:
            response = self._send(connection, "POST", path, json.dumps({**body, "stream": True}))
            _require_ok(response)
            yield from _events(response)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ServerAbsent(f"the answer of {self.url} broke off: {error}") from error
        finally:
            connection.close()

    def download(self, path: str, body: Mapping[str, Any]) -> Iterator[bytes]:
        """The bytes of an answer as they come. Raises ServerAbsent, also where it breaks off;
        ServerRefused."""
        with closing(self._connect(ANSWER_SECONDS)) as connection:
            try:
                response = self._send(connection, "POST", path, json.dumps(body))
                _require_ok(response)
                while block := response.read1(BLOCK_BYTES):
                    yield block
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise ServerAbsent(f"the answer of {self.url} broke off: {error}") from error

    def upload(
        self, path: str, fields: Iterable[tuple[str, str]], files: Iterable[tuple[str, Path]]
    ) -> Iterator[dict[str, Any]]:
        """The events of a streamed answer to a form with files by their fields' names, which are
        sent as they are read.

        Raises ServerAbsent or ServerRefused; OSError for a file.
        """
        form = Form([*fields, ("stream", "true")])
        with ExitStack() as held:
            for name, file in files:
                form.add(name, file.name, held.enter_context(file.open("rb")))
            connection = held.enter_context(closing(self._connect(ANSWER_SECONDS)))
            headers = {**self._headers, **form.headers}
            try:
                # A server that refuses answers before it has read everything.
                with suppress(BrokenPipeError, ConnectionResetError):
                    connection.request("POST", urlsplit(self.url).path + path, form, headers)
                response = connection.getresponse()
                _require_ok(response)
                yield from _events(response)
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise ServerAbsent(f"the answer of {self.url} broke off: {error}") from error

    def _connect(self, timeout: float | None) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ServerAbsent(f"{self.url} is not the URL of a server")
        secure = parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        return kind(parts.hostname, parts.port, timeout=timeout)

    def _send(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: str = ""
    ) -> http.client.HTTPResponse:
        root = urlsplit(self.url).path
        connection.request(method, root + path, body.encode() or None, self._headers)
        return connection.getresponse()


def _require_ok(response: http.client.HTTPResponse) -> None:
    if response.status == http.client.OK:
        return
    raise ServerRefused(_message(response.read(), response.reason), response.status)


def _message(body: bytes, reason: str) -> str:
    try:
        error = json.loads(body)["error"]
        return str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, KeyError, TypeError):
        return reason


def _events(lines: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    for line in lines:
        if not line.startswith(b"data:"):
            continue
        data = line.removeprefix(b"data:").strip()
        if data == b"[DONE]":
            return
        event = json.loads(data)
        if "error" in event:
            raise ServerRefused(str(event["error"].get("message", event["error"])), http.client.OK)
        yield event
    raise ServerAbsent("the answer broke off before its end")
