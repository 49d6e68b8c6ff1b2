"""The life of the process: many requests at once, clients that leave, signals."""

from __future__ import annotations

import json
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.e2e.process import Process, serve
from tests.tiny_models import Shape, build

pytestmark = pytest.mark.slow

LONG = {
    "model": "tiny",
    "messages": [{"role": "user", "content": "go on"}],
    "max_tokens": 3000,
    "ignore_eos": True,
}

LONG_COMPLETION = {
    "model": "tiny",
    "prompt": "go on",
    "max_tokens": 6000,
    "ignore_eos": True,
    "stream": True,
}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights and a long context, for answers that go on and on."""
    return build(tmp_path_factory.mktemp("long") / "tiny", shape=Shape(context=8192))


@pytest.fixture(scope="module", params=["mlx", "torch"])
def server(
    request: pytest.FixtureRequest, tiny: Path, tmp_path_factory: pytest.TempPathFactory
) -> object:
    home = tmp_path_factory.mktemp("home")
    with serve(home, str(tiny), "--backend", request.param) as process:
        yield process


def wait_until_free(server: Process) -> None:
    """The slot is free within a step; a step is far below the second that this allows."""
    for _ in range(100):
        if server.metric("mlxsrv_running_sequences") == 0:
            return
        time.sleep(0.01)
    raise AssertionError("the slot is still taken")


@pytest.mark.parametrize("length", [0, 1, 40, 300, 2000])
def test_a_client_may_leave_at_any_byte_of_a_stream(server: Process, length: int) -> None:
    body = json.dumps(LONG | {"stream": True}).encode()
    where = urlsplit(server.url)
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {where.netloc}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((where.hostname, where.port)) as connection:
        connection.sendall(head.encode() + body)
        received = 0
        while received < length:
            received += len(connection.recv(min(64, length - received)))
    wait_until_free(server)


def test_a_client_that_does_not_stream_may_leave_too(server: Process) -> None:
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{server.url}/v1/chat/completions", json=LONG, timeout=0.5)
    wait_until_free(server)


def test_a_half_sent_body_takes_nothing(server: Process) -> None:
    where = urlsplit(server.url)
    with socket.create_connection((where.hostname, where.port)) as connection:
        connection.sendall(
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: {where.netloc}\r\n"
            'Content-Type: application/json\r\nContent-Length: 500\r\n\r\n{"mess'.encode()
        )
    assert httpx.get(f"{server.url}/health").json()["status"] == "ok"
    wait_until_free(server)


@pytest.mark.slow
def test_eight_requests_at_once_are_one_batch_and_each_gives_what_it_gives_alone(
    server: Process,
) -> None:
    bodies = [
        {
            "model": "tiny",
            "prompt": f"request {number}: " + "word " * number,
            "max_tokens": 200,
            "ignore_eos": True,
            "seed": number,
            "temperature": number % 3 / 2,
        }
        for number in range(8)
    ]

    def ask(body: dict[str, object]) -> str:
        answer = httpx.post(f"{server.url}/v1/completions", json=body, timeout=60)
        assert answer.status_code == 200, answer.text
        text: str = answer.json()["choices"][0]["text"]
        return text

    alone = [ask(body) for body in bodies]
    assert len(set(alone)) == 8
    with ThreadPoolExecutor(9) as pool:
        answers = [pool.submit(ask, body) for body in bodies]
        most = 0.0
        while not all(answer.done() for answer in answers):
            most = max(most, server.metric("mlxsrv_running_sequences"))
        assert [answer.result() for answer in answers] == alone
    assert most == 8


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_under_load_ends_streams_properly(
    tiny: Path, tmp_path: Path, sign: signal.Signals
) -> None:
    flags = ("--backend", "torch", "--drain-seconds", "0.2")
    with serve(tmp_path, str(tiny), *flags) as server, ThreadPoolExecutor(4) as pool:

        def stream() -> list[str]:
            url = f"{server.url}/v1/chat/completions"
            with httpx.stream("POST", url, json=LONG | {"stream": True}, timeout=60) as answer:
                return [line for line in answer.iter_lines() if line]

        streams = [pool.submit(stream) for _ in range(4)]
        while server.metric("mlxsrv_running_sequences") < 4:
            time.sleep(0.01)
        assert server.stop(sign) == 0
        for one in streams:
            last = json.loads(one.result()[-1].removeprefix("data: "))
            assert last["error"]["code"] == "shutting_down"
    assert "Traceback" not in server.output


@pytest.mark.slow
def test_a_short_answer_is_finished_before_the_server_stops(tiny: Path, tmp_path: Path) -> None:
    with (
        serve(tmp_path, str(tiny), "--backend", "torch") as server,
        ThreadPoolExecutor(1) as pool,
    ):
        body = LONG | {"max_tokens": 300}
        url = f"{server.url}/v1/chat/completions"
        answer = pool.submit(lambda: httpx.post(url, json=body, timeout=60))
        while server.metric("mlxsrv_running_sequences") < 1:
            time.sleep(0.005)
        assert server.stop() == 0
        assert answer.result().json()["usage"]["completion_tokens"] == 300


def test_a_prompt_longer_than_a_slice_does_not_stop_running_streams(server: Process) -> None:
    """While a long prompt is prefilled, a running stream still gets its tokens."""
    url = f"{server.url}/v1/completions"
    prompt = "word " * 1500
    with httpx.stream("POST", url, json=LONG_COMPLETION, timeout=60) as running:
        lines = running.iter_lines()
        next(lines)
        with ThreadPoolExecutor(1) as pool:
            body = {"model": "tiny", "prompt": prompt, "max_tokens": 1}
            other = pool.submit(lambda: httpx.post(url, json=body, timeout=60))
            during = 0
            while not other.done():
                during += next(lines).startswith("data:")
            assert other.result().status_code == 200
    assert during >= 2
    wait_until_free(server)
