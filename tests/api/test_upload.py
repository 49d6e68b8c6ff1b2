from __future__ import annotations

import logging
import socket
import struct
import time
from collections.abc import AsyncIterator

import pytest

from mlxsrv.api.middleware import wrap
from tests.api.shell import call, live, make_app, make_services, raw_request, wrapped

CHAT = b'{"messages": []}'


def test_413_by_header_says_the_limit() -> None:
    app = wrapped(max_body_bytes=100)
    answer = call(app, "POST", "/v1/chat", content=b"x" * 101)
    assert answer.status_code == 413
    message = "The request body of 101 bytes is larger than the limit of 100 bytes"
    assert answer.json()["error"]["message"] == message
    plain = call(app, "POST", "/api/v1/chat", content=b"x" * 101)
    assert plain.json() == {"error": message}


def test_413_by_chunks() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield b"x" * 10

    answer = call(wrapped(max_body_bytes=100), "POST", "/v1/chat", content=chunks())
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "request_too_large"


def test_the_key_comes_before_the_size() -> None:
    app = wrapped(max_body_bytes=100, api_key="k")
    assert call(app, "POST", "/v1/chat", content=b"x" * 101).status_code == 401


def test_json_has_a_smaller_limit_than_files() -> None:
    app = wrapped()
    huge = {"Content-Length": str(26_000_000)}
    assert call(app, "POST", "/v1/chat", headers=huge).status_code == 413
    files = {**huge, "Content-Type": "multipart/form-data; boundary=x"}
    assert call(app, "POST", "/v1/chat", headers=files).status_code == 415


def test_a_large_refused_upload_gets_its_answer_through() -> None:
    with live(wrapped(max_body_bytes=1000)) as address, socket.create_connection(address) as client:
        client.sendall(raw_request(address[1], "POST", "/v1/chat", b"x" * 5_000_000))
        assert client.recv(65536).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("path", ["/v1/chat", "/v1/nowhere", "/v1/stream"])
def test_a_half_sent_body_that_stalls_is_dropped(path: str) -> None:
    services = make_services()
    app = wrap(make_app(services), services, stall_seconds=0.05)
    with live(app) as address, socket.create_connection(address) as client:
        client.sendall(raw_request(address[1], "POST", path, CHAT)[:-5])
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += client.recv(65536)
        if path == "/v1/nowhere":
            assert answer.startswith(b"HTTP/1.1 404 ")
            return
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"connection: close" in answer
        while client.recv(65536):
            pass  # until the server closes


@pytest.mark.parametrize("path", ["/v1/chat", "/v1/slow", "/v1/stream"])
def test_a_client_that_leaves_in_its_body_is_no_error(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    services = make_services()
    with caplog.at_level(logging.INFO), live(wrapped(services)) as address:
        client = socket.create_connection(address)
        client.sendall(raw_request(address[1], "POST", path, CHAT)[:-5])
        while not services.lifecycle.in_flight:
            time.sleep(0.005)
        # A reset rather than an orderly end, as of a client that was killed.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    assert services.requests.finished == {(path, 499): 1}
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []
