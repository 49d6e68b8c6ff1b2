"""The server as a process: ports, signals, exit codes."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from mlxsrv.config.settings import ApiSettings
from mlxsrv.core.kinds import Kind
from mlxsrv.server import banner, bind
from tests.api.shell import make_services

ROOT = Path(__file__).parent.parent


class Running:
    """A child process and the port it printed."""

    def __init__(self, process: subprocess.Popen[str], ports: list[int]) -> None:
        self.process = process
        self.ports = ports

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports[0]}"

    def ended(self) -> tuple[int, str, str]:
        """Exit code, rest of standard output, standard error."""
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err


def spawn(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.toy_server", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def running(*arguments: str) -> Iterator[Running]:
    process = spawn("127.0.0.1:0", *arguments)
    try:
        assert process.stdout is not None
        ports = []
        for line in process.stdout:
            if match := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                ports.append(int(match[1]))
            if "Ctrl-C" in line:
                break
        yield Running(process, ports)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


@contextmanager
def streaming(server: Running, **body: object) -> Iterator[Iterator[str]]:
    """The lines of a stream whose first event has arrived."""
    with httpx.stream("POST", f"{server.url}/v1/stream", json=body, timeout=30) as answer:
        lines = answer.iter_lines()
        assert next(lines) == "data: 0"
        yield lines


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_idle_ends_with_code_zero(number: signal.Signals) -> None:
    with running() as server:
        assert httpx.get(f"{server.url}/health").json()["status"] == "ok"
        server.process.send_signal(number)
        code, out, err = server.ended()
    assert code == 0
    assert "stopped" in out
    assert "Traceback" not in err


@pytest.mark.slow
def test_sigterm_lets_a_running_stream_finish_and_refuses_new_requests() -> None:
    with running() as server:
        with streaming(server, count=3, hang_at=1, hang_seconds=1.5) as lines:
            server.process.send_signal(signal.SIGTERM)
            while (answer := httpx.get(f"{server.url}/v1/models/m")).status_code == 200:
                time.sleep(0.01)
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "shutting_down"
            assert httpx.get(f"{server.url}/health").json()["status"] == "draining"
            rest = [line for line in lines if line]
        code, _, err = server.ended()
    assert rest == ["data: 1", "data: 2", "data: [DONE]"]
    assert code == 0
    assert "Traceback" not in err
    assert "level=error" not in err


@pytest.mark.slow
def test_a_stream_that_outlives_its_time_ends_with_the_error_event() -> None:
    with running("drain_seconds=0.1") as server:
        with streaming(server, count=3, hang_at=1) as lines:
            server.process.send_signal(signal.SIGTERM)
            last = [line for line in lines if line][-1]
        code, out, err = server.ended()
    error = json.loads(last.removeprefix("data: "))["error"]
    assert error["code"] == "shutting_down"
    assert code == 0
    assert out.split() == ["drained", "stopped"]
    assert "Traceback" not in err


@pytest.mark.slow
def test_an_answer_that_outlives_its_time_is_a_503() -> None:
    with running("drain_seconds=0.1") as server, httpx.Client() as client:
        body = b"{}"
        host, port = "127.0.0.1", server.ports[0]
        with socket.create_connection((host, port)) as raw:
            head = f"POST /v1/slow HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n"
            raw.sendall(head.encode() + body)
            while client.get(f"{server.url}/health").json()["in_flight"] == 0:
                time.sleep(0.01)
            server.process.send_signal(signal.SIGTERM)
            answer = raw.recv(65536)
        code, _, _ = server.ended()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert code == 0


def test_a_second_interrupt_stops_at_once() -> None:
    with running() as server, streaming(server, count=3, hang_at=1):
        server.process.send_signal(signal.SIGINT)
        while httpx.get(f"{server.url}/health").json()["status"] != "draining":
            time.sleep(0.01)
        server.process.send_signal(signal.SIGINT)
        code, _, err = server.ended()
    assert code == 130
    assert "stopped at once" in err


def test_a_model_that_fails_to_load_is_one_line_and_code_one() -> None:
    process = spawn("127.0.0.1:0", "fail=yes")
    out, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "mlxsrv: error: demo: no config.json in /models/demo\n" in err
    assert "Traceback" not in err
    assert "ready" not in out


def test_a_signal_while_loading_ends_with_code_zero() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = spawn(f"127.0.0.1:{port}", "load_seconds=60")
    url = f"http://127.0.0.1:{port}/health"
    while True:
        try:
            answer = httpx.get(url)
            break
        except httpx.TransportError:
            assert process.poll() is None
            time.sleep(0.02)
    assert (answer.status_code, answer.json()["status"]) == (503, "loading")
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 0


def test_split_ports_answer_in_one_process_each_with_its_kind() -> None:
    with running("ports=embedding=0,stt=0") as server:
        kinds = [
            httpx.get(f"http://127.0.0.1:{port}/v1/models/m").json()["kind"]
            for port in server.ports
        ]
        health = [httpx.get(f"http://127.0.0.1:{port}/health") for port in server.ports]
    assert set(kinds) == {None, "embedding", "stt"}
    assert [answer.status_code for answer in health] == [200, 200, 200]


def test_a_port_in_use_is_one_clear_line() -> None:
    script = (
        "import sys; from mlxsrv.config.settings import ApiSettings, Settings; "
        "from mlxsrv.server import serve; "
        "sys.exit(serve(Settings(api=ApiSettings(address=sys.argv[1]))))"
    )
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-c", script, f"127.0.0.1:{port}"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    reason = f"port {port} on 127.0.0.1 is in use: choose another with --port"
    assert done.stderr == f"mlxsrv: error: {reason}\n"


def test_the_main_port_may_be_one_of_the_split_ports() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    listeners = bind(ApiSettings(address=f"127.0.0.1:{port}", ports={Kind.CHAT: port}))
    try:
        assert [(one.port, one.kind) for one in listeners] == [(port, Kind.CHAT)]
    finally:
        for one in listeners:
            one.socket.close()


@pytest.mark.parametrize("address", ["203.0.113.1:0", "no-such-host.invalid:0"])
def test_an_address_that_is_not_ours_is_a_clear_error(address: str) -> None:
    with pytest.raises(OSError, match="can't listen on"):
        bind(ApiSettings(address=address))


def test_the_banner_says_where_on_what_and_what_next() -> None:
    listeners = bind(ApiSettings(address="127.0.0.1:0"))
    try:
        text = banner(make_services(), listeners)
        demo = f"http://127.0.0.1:{listeners[0].port}"
    finally:
        listeners[0].socket.close()
    assert demo in text
    assert "torch (no Metal here)" in text
    assert "mlxsrv serve mlx-community/" in text
    own = ApiSettings.model_validate({"models": {"mine": {"path": "/models/mine"}}})
    assert "mlxsrv serve" not in banner(make_services(api=own), [])
