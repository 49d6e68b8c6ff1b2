from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest
from starlette.types import Message

from mlxsrv.api.middleware import wrap
from tests.api.shell import call, make_app, make_services, wrapped

CHAT = {"messages": [{"role": "user", "content": "hi"}]}


def basic(pair: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer sk-1"},
        {"Authorization": "bearer sk-1"},
        {"x-api-key": "sk-1"},
        {"Authorization": "Bearer wrong", "x-api-key": "sk-1"},
    ],
)
def test_the_key_opens(headers: dict[str, str]) -> None:
    app = wrapped(api_key="sk-1")
    assert call(app, "POST", "/v1/chat", json=CHAT, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer sk-2"},
        {"Authorization": "Bearer"},
        {"Authorization": "sk-1"},
        {"Authorization": "Bearer sk-1x"},
        {"x-api-key": ""},
        {"Authorization": "Basic !!!"},
        basic("sk-1:"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat", "/metrics", "/docs", "/api/v1/topology", "/nowhere"])
def test_without_the_key_all_is_closed(headers: dict[str, str], path: str) -> None:
    answer = call(wrapped(api_key="sk-1"), "GET", path, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


def test_401_in_each_dialect() -> None:
    app = wrapped(api_key="sk-1")
    message = "No API key was given: send it as 'Authorization: Bearer KEY'"
    assert call(app, "POST", "/v1/chat").json()["error"] == {
        "message": message,
        "type": "authentication_error",
        "param": None,
        "code": "invalid_api_key",
    }
    assert call(app, "POST", "/api/v1/chat").json() == {"error": message}
    anthropic = call(app, "POST", "/v1/messages").json()
    assert anthropic["type"] == "error"
    assert anthropic["error"]["type"] == "authentication_error"


def test_health_and_the_page_are_open() -> None:
    app = wrapped(api_key="sk-1")
    assert call(app, "GET", "/health").status_code == 200
    assert call(app, "HEAD", "/health").status_code == 200
    assert call(app, "GET", "/").status_code == 200


def test_basic_auth_guards_the_page_and_the_topology() -> None:
    app = wrapped(api_key="sk-1", ui_auth="me:secret")
    closed = call(app, "GET", "/")
    assert closed.status_code == 401
    assert closed.headers["www-authenticate"].startswith("Basic ")
    assert call(app, "GET", "/", headers=basic("me:wrong")).status_code == 401
    assert call(app, "GET", "/", headers=basic("me:secret")).status_code == 200
    # No such route yet, but past the door:
    assert call(app, "GET", "/api/v1/topology", headers=basic("me:secret")).status_code == 404
    assert call(app, "GET", "/api/v1/topology", headers={"x-api-key": "sk-1"}).status_code == 404
    assert call(app, "POST", "/v1/chat", headers=basic("me:secret")).status_code == 401


@pytest.mark.parametrize(
    ("headers", "code"),
    [([], 401), ([(b"origin", b"http://evil.example"), (b"x-api-key", b"sk-1")], 403)],
)
@pytest.mark.parametrize("extension", [True, False])
def test_websockets_pass_the_same_doors(
    headers: list[tuple[bytes, bytes]], code: int, extension: bool
) -> None:
    services = make_services(api_key="sk-1")
    app = wrap(make_app(services), services)
    sent: list[Message] = []
    scope: dict[str, Any] = {
        "type": "websocket",
        "path": "/v1/realtime",
        "headers": [(b"host", b"127.0.0.1:8080"), *headers],
        "extensions": {"websocket.http.response": {}} if extension else {},
    }

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    async def connect() -> None:
        await app(scope, receive, send)

    asyncio.run(connect())
    if extension:
        assert sent[0]["status"] == code
        assert b"x-request-id" in dict(sent[0]["headers"])
    else:
        assert sent == [{"type": "websocket.close", "code": 1008}]
