from __future__ import annotations

import json
import logging
import socket
from typing import Any

import httpx
import pytest

from mlxsrv.api.middleware import wrap
from tests.api.shell import (
    Probe,
    call,
    live,
    make_app,
    make_services,
    raw_request,
    wrapped,
)


def stream_request(port: int, **body: Any) -> bytes:
    return raw_request(port, "POST", "/v1/stream", json.dumps(body).encode())


def test_a_stream_arrives_whole_with_its_headers() -> None:
    answer = call(wrapped(), "POST", "/v1/stream", json={"count": 3})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-accel-buffering"] == "no"
    assert "x-request-id" in answer.headers
    assert answer.text == "data: 0\n\ndata: 1\n\ndata: 2\n\ndata: [DONE]\n\n"


def test_an_early_error_keeps_its_status() -> None:
    answer = call(wrapped(), "POST", "/v1/stream", json={"fail_at": 0})
    assert answer.status_code == 500
    assert answer.json()["error"]["message"] == "this sequence failed"


def test_a_late_error_is_the_last_event(caplog: pytest.LogCaptureFixture) -> None:
    services = make_services()
    app = make_app(services)
    with caplog.at_level(logging.ERROR):
        answer = call(wrap(app, services), "POST", "/v1/stream", json={"fail_at": 2})
    *events, last, rest = answer.text.split("\n\n")
    assert events == ["data: 0", "data: 1"]
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "generation_failed"
    assert rest == ""
    assert "this sequence failed" in caplog.text
    assert app.state.probe.ended.is_set()


def test_silence_is_filled_with_comments_before_and_between_events() -> None:
    body = {"count": 2, "hang_at": 1, "hang_seconds": 0.3, "keep_alive": 0.05}
    text = call(wrapped(), "POST", "/v1/stream", json=body).text
    assert text.replace(": keep-alive\n\n", "") == "data: 0\n\ndata: 1\n\ndata: [DONE]\n\n"
    assert text.startswith("data: 0\n\n: keep-alive\n\n: keep-alive\n\n")
    early = call(wrapped(), "POST", "/v1/stream", json={**body, "hang_at": 0}).text
    assert early.startswith(": keep-alive\n\n")
    assert early.endswith("data: 0\n\ndata: 1\n\ndata: [DONE]\n\n")


@pytest.mark.parametrize("hang_at", [0, 1])
def test_a_client_that_leaves_ends_the_iterator_at_once(hang_at: int) -> None:
    services = make_services()
    app = make_app(services)
    probe: Probe = app.state.probe
    with live(wrap(app, services)) as address:
        client = socket.create_connection(address)
        client.sendall(stream_request(address[1], hang_at=hang_at))
        assert probe.started.wait(10)
        assert not probe.ended.is_set()
        client.close()
        assert probe.ended.wait(10)
    assert services.requests.finished == {("/v1/stream", 499): 1}
    assert services.lifecycle.in_flight == 0


def test_a_client_that_leaves_while_events_flow_ends_the_iterator() -> None:
    services = make_services()
    app = make_app(services)
    probe: Probe = app.state.probe
    with live(wrap(app, services)) as address:
        client = socket.create_connection(address)
        client.sendall(stream_request(address[1], count=10_000_000))
        client.recv(10_000)
        client.close()
        assert probe.ended.wait(10)
    assert probe.sent < 10_000_000


def test_a_slow_reader_holds_the_stream_back_but_nobody_else() -> None:
    services = make_services()
    app = make_app(services)
    probe: Probe = app.state.probe
    with live(wrap(app, services)) as address:
        client = socket.create_connection(address)
        client.sendall(stream_request(address[1], count=2_000, size=100_000, keep_alive=0.05))
        client.recv(100)
        for _ in range(3):
            assert httpx.get(f"http://127.0.0.1:{address[1]}/health").status_code == 200
        # Two hundred megabytes do not fit into the buffers between the two.
        assert probe.sent < 2_000
        assert not probe.ended.is_set()
        client.close()
        assert probe.ended.wait(10)


def test_an_answer_that_is_not_streamed_is_cancelled_with_its_client() -> None:
    services = make_services()
    app = make_app(services)
    probe: Probe = app.state.probe
    with live(wrap(app, services)) as address:
        client = socket.create_connection(address)
        client.sendall(raw_request(address[1], "POST", "/v1/slow", b"{}"))
        assert probe.started.wait(10)
        client.close()
        assert probe.ended.wait(10)
    assert services.requests.finished == {("/v1/slow", 499): 1}
