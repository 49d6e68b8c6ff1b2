"""What breaks, over HTTP: one request, the device thread, the process, the connection."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.e2e.process import Process, serve
from tests.faults.faulty_server import ABORT, KILL_DEVICE, RAISE

pytestmark = pytest.mark.slow  # every test starts processes of its own

GOOD = {"prompt": "The quick brown", "max_tokens": 20, "temperature": 0, "ignore_eos": True}
STREAMS = 4


def completion(server: Process, **body: Any) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/completions", json=GOOD | body, timeout=60)


def text(server: Process, **body: Any) -> str:
    answer = completion(server, **body)
    assert answer.status_code == 200, answer.text
    found: str = answer.json()["choices"][0]["text"]
    return found


def serving_pid(server: Process) -> int:
    return int(re.findall(r"^pid (\d+)$", server.output, re.MULTILINE)[-1])


def wait_until_free(server: Process) -> None:
    for _ in range(200):
        running = server.metric("mlxsrv_running_sequences")
        if running + server.metric("mlxsrv_queue_length") == 0:
            return
        time.sleep(0.01)
    raise AssertionError("a slot is still taken")


def stream(server: Process, number: int, leave: threading.Event) -> str:
    """The last event of an endless stream, or the error that broke it off."""
    body = GOOD | {"prompt": f"stream {number}", "max_tokens": 8000, "stream": True}
    last = ""
    try:
        url = f"{server.url}/v1/completions"
        with httpx.stream("POST", url, json=body, timeout=60) as answer:
            for line in answer.iter_lines():
                last = line or last
                if leave.is_set():
                    break
    except httpx.TransportError as error:
        return type(error).__name__
    return last


@contextmanager
def load(server: Process) -> Iterator[list[Future[str]]]:
    """Four streams that run by now and would go on for long."""
    leave = threading.Event()
    with ThreadPoolExecutor(STREAMS) as pool:
        streams = [pool.submit(stream, server, number, leave) for number in range(STREAMS)]
        while server.metric("mlxsrv_running_sequences") < STREAMS:
            time.sleep(0.01)
        try:
            yield streams
        finally:
            leave.set()


def test_a_failed_step_ends_its_own_request_and_no_other(faulty: Process) -> None:
    wanted = [text(faulty, prompt=f"other {number}") for number in range(STREAMS)]
    with ThreadPoolExecutor(STREAMS + 1) as pool:
        asked = [pool.submit(text, faulty, prompt=f"other {n}") for n in range(STREAMS)]
        answer = completion(faulty, seed=RAISE, temperature=1)
        assert [each.result() for each in asked] == wanted
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "generation_failed"
    assert "injected" not in answer.text
    wait_until_free(faulty)


def test_a_failed_step_of_a_stream_is_its_last_event(faulty: Process) -> None:
    answer = completion(faulty, seed=RAISE, temperature=1, stream=True)
    last = json.loads(answer.text.strip().splitlines()[-1].removeprefix("data: "))
    assert last["error"]["code"] == "generation_failed"


def test_when_the_device_thread_dies_requests_fail_at_once_and_a_new_process_serves(
    faulty: Process,
) -> None:
    before, restarts = text(faulty), faulty.metric("mlxsrv_restarts_total")
    with load(faulty) as streams:
        answer = completion(faulty, seed=KILL_DEVICE, temperature=1)
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "device_dead"
        for each in streams:
            last = json.loads(each.result().removeprefix("data: "))
            assert last["error"]["code"] == "device_dead"
    # A moment is left in which the dying process still accepts: it says so, and when to retry.
    while (answer := completion(faulty)).status_code == 503:
        assert answer.json()["error"]["code"] == "device_dead"
        assert answer.headers["retry-after"] == "1"
        time.sleep(0.05)
    assert answer.json()["choices"][0]["text"] == before
    assert faulty.metric("mlxsrv_restarts_total") == restarts + 1
    assert 'reason="the device thread died"' in faulty.output


@pytest.mark.parametrize("how", ["SIGKILL", "SIGABRT", "abort in a step"])
def test_a_killed_process_is_replaced_and_the_next_request_is_answered(
    faulty: Process, how: str
) -> None:
    before, restarts = text(faulty), faulty.metric("mlxsrv_restarts_total")
    with load(faulty) as streams:
        if how.startswith("SIG"):
            os.kill(serving_pid(faulty), signal.Signals[how])
        else:
            with pytest.raises(httpx.TransportError):
                completion(faulty, seed=ABORT, temperature=1)
        assert {each.result() for each in streams} <= {"RemoteProtocolError", "ReadError"}
    assert text(faulty) == before
    assert faulty.metric("mlxsrv_restarts_total") == restarts + 1


def test_a_server_that_is_not_to_be_supervised_dies_for_good(
    tmp_path: Path, faulty_home: Path
) -> None:
    with serve(
        tmp_path,
        str(faulty_home / "tiny"),
        "--backend",
        "mlx",
        module="tests.faults.faulty_server",
        MLXSRV_SUPERVISE="false",
    ) as server:
        os.kill(serving_pid(server), signal.SIGABRT)
        assert server.child.wait(30) == 128 + signal.SIGABRT


def test_a_hundred_requests_beyond_the_queue_are_refused_politely(faulty: Process) -> None:
    before = text(faulty)
    with load(faulty) as streams:
        with ThreadPoolExecutor(100) as pool:
            asked = [pool.submit(completion, faulty, max_tokens=40) for _ in range(100)]
            answers = [each.result() for each in asked]
        assert not any(each.done() for each in streams)
    refused = [answer for answer in answers if answer.status_code == 503]
    assert {answer.status_code for answer in answers} == {200, 503}
    assert {answer.json()["error"]["code"] for answer in refused} == {"overloaded"}
    assert all(answer.headers["retry-after"] for answer in refused)
    assert text(faulty) == before


@pytest.mark.parametrize(
    ("field", "value"),
    [("temperature", 1e-308), ("temperature", 1e-5), ("repetition_penalty", 1e-53)],
)
def test_numbers_too_small_for_the_device_do_no_harm(
    fuzzed: Process, field: str, value: float
) -> None:
    body = {"prompt": "hello", "max_tokens": 8, "logprobs": 2, "temperature": 1, field: value}
    answer = httpx.post(f"{fuzzed.url}/v1/completions", json=body, timeout=60)
    assert answer.status_code == 200, answer.text


def connect(server: Process, body: dict[str, Any]) -> tuple[socket.socket, bytes]:
    """A connection, and the whole request for it."""
    where = urlsplit(server.url)
    content = json.dumps(body).encode()
    head = (
        f"POST /v1/completions HTTP/1.1\r\nHost: {where.netloc}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    connection = socket.socket()
    # Small buffers: what a stalled reader leaves unread must not all fit into the kernel.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect((where.hostname, where.port))
    return connection, head.encode() + content


def test_a_connection_may_drop_at_any_byte_of_request_and_answer(faulty: Process) -> None:
    before = text(faulty)
    cuts = random.Random(0)
    for _ in range(30):
        connection, whole = connect(faulty, GOOD | {"max_tokens": 8000, "stream": True})
        with connection:
            connection.sendall(whole[: cuts.randrange(1, len(whole))])
    for _ in range(30):
        connection, whole = connect(faulty, GOOD | {"max_tokens": 8000, "stream": True})
        with connection:
            connection.sendall(whole)
            left = cuts.randrange(1, 2000)
            while left > 0:
                left -= len(connection.recv(min(left, 256)))
    wait_until_free(faulty)
    assert text(faulty) == before


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_readers_that_stall_hold_up_nobody_and_little_memory(faulty: Process) -> None:
    before = text(faulty)
    resident = resident_bytes(serving_pid(faulty))
    stalled = []
    for number in range(STREAMS):
        body = GOOD | {"prompt": f"stall {number}", "max_tokens": 7000, "stream": True}
        connection, whole = connect(faulty, body)
        connection.sendall(whole)
        stalled.append(connection)
    try:
        while faulty.metric("mlxsrv_running_sequences") < STREAMS:
            time.sleep(0.01)
        assert text(faulty) == before
        wait_until_generated(faulty, 4000)
        assert text(faulty) == before
        assert resident_bytes(serving_pid(faulty)) - resident < 100_000_000
    finally:
        for connection in stalled:
            connection.close()
    wait_until_free(faulty)


def wait_until_generated(server: Process, tokens: int) -> None:
    """Waits for so many more tokens, or for the batch to be empty."""
    goal = server.metric("mlxsrv_generated_tokens_total") + tokens
    while server.metric("mlxsrv_generated_tokens_total") < goal:
        if server.metric("mlxsrv_running_sequences") == 0:
            return
        time.sleep(0.05)


def resident_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
