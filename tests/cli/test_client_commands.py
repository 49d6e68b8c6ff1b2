"""ps and run, with a server that is already there."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.command import environment, mlxsrv
from tests.cli.server_double import ServerDouble, running


@pytest.fixture
def server() -> Iterator[ServerDouble]:
    with running() as double:
        yield double


def test_ps(server: ServerDouble, tmp_path: Path) -> None:
    done = mlxsrv(tmp_path, "ps", "--url", server.url)
    assert done.stdout.splitlines() == [
        f"{server.url}: ok, 1.2.3, torch",
        "NAME      KIND        STATE      BACKEND  MEMORY  CONTEXT  REQUESTS  IDLE",
        "org/chat  chat        loaded     torch    2.5 GB  4096     3         of 5 min pinned",
        "  pirate  lora        loaded     torch    4.2 MB  4096     -         12 s",
        "plain     completion  available  -        -       -        -         -",
        "memory: 2.6 GB of 16.0 GB (weights 2.5 GB, prefix cache 90.0 MB)",
    ]


def test_ps_takes_address_and_key_from_the_settings(server: ServerDouble, tmp_path: Path) -> None:
    server.key = "sk-1"
    address = server.url.removeprefix("http://")
    denied = mlxsrv(tmp_path, "ps", MLXSRV_ADDRESS=address)
    assert (denied.returncode, denied.stderr) == (1, "mlxsrv: error: Wrong key.\n")
    allowed = mlxsrv(tmp_path, "ps", MLXSRV_ADDRESS=address, MLXSRV_API_KEY="sk-1")
    assert "org/chat" in allowed.stdout


def test_run_asks_once(server: ServerDouble, tmp_path: Path) -> None:
    words = ["--url", server.url, "--system", "Be brief.", "--temperature", "0"]
    done = mlxsrv(tmp_path, "run", "org/chat", "Hi", *words)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Hello wörld\n", "")
    [(path, body)] = server.bodies
    assert path == "/v1/chat/completions"
    assert body == {
        "model": "org/chat",
        "stream": True,
        "temperature": 0,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
        ],
    }


def test_run_continues_text_where_there_is_no_template(
    server: ServerDouble, tmp_path: Path
) -> None:
    done = mlxsrv(tmp_path, "run", "plain", "--url", server.url, stdin="Once upon")
    assert done.stdout == "Hello wörld\n"
    assert server.bodies == [
        ("/v1/completions", {"model": "plain", "prompt": "Once upon", "stream": True})
    ]


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (b'data: {"error": {"message": "The step failed."}}\n\n', "The step failed."),
        (b"", "the answer broke off before its end"),
        (b"data: {nonsense\n\n", "broke off"),
    ],
)
def test_run_says_when_an_answer_breaks_off(
    server: ServerDouble, tmp_path: Path, end: bytes, words: str
) -> None:
    server.end = end
    done = mlxsrv(tmp_path, "run", "org/chat", "Hi", "--url", server.url)
    assert done.returncode == 1
    assert done.stdout == "Hello wörld"
    assert done.stderr.startswith("mlxsrv: error: ")
    assert words in done.stderr


def test_run_names_what_is_served_instead(server: ServerDouble, tmp_path: Path) -> None:
    done = mlxsrv(tmp_path, "run", "org/other", "Hi", "--url", server.url)
    assert done.returncode == 1
    assert f"{server.url} does not serve org/other, but org/chat, plain" in done.stderr


class Conversation:
    """`mlxsrv run MODEL` on a terminal."""

    def __init__(self, server: ServerDouble, home: Path, *words: str) -> None:
        self.primary, secondary = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlxsrv", "run", "org/chat", *words, "--url", server.url],
            env=environment(home, TERM="dumb"),
            stdin=secondary,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        os.close(secondary)
        self.shown = ""

    def type(self, text: str) -> None:
        os.write(self.primary, text.encode())

    def wait_for(self, text: str) -> None:
        assert self.process.stdout is not None
        while text not in self.shown:
            piece = os.read(self.process.stdout.fileno(), 1000)
            assert piece, f"{text!r} never came, but {self.shown!r}"
            self.shown += piece.decode()

    def end(self) -> tuple[int, str]:
        rest, errors = self.process.communicate(timeout=60)
        self.shown += rest.decode()
        os.close(self.primary)
        return self.process.returncode, errors.decode()


def test_a_conversation_keeps_its_history(server: ServerDouble, tmp_path: Path) -> None:
    user = Conversation(server, tmp_path)
    user.type("One\nTwo\n/bye\n")
    assert user.end() == (0, "")
    assert user.shown.count("Hello wörld\n") == 2
    roles = [[m["role"] for m in body["messages"]] for _, body in server.bodies]
    assert roles == [["user"], ["user", "assistant", "user"]]
    assert server.bodies[1][1]["messages"][1]["content"] == "Hello wörld"


def test_ctrl_c_ends_the_answer_and_ctrl_d_the_conversation(
    server: ServerDouble, tmp_path: Path
) -> None:
    server.go_on.clear()
    user = Conversation(server, tmp_path)
    user.type("One\n")
    user.wait_for("wörld")
    user.process.send_signal(signal.SIGINT)
    user.wait_for("wörld\n")
    server.go_on.set()
    user.type("Two\n\x04")
    assert user.end() == (0, "")
    assert [m["content"] for m in server.bodies[1][1]["messages"]] == ["One", "Hello wörld", "Two"]


def test_ctrl_c_ends_a_single_question(server: ServerDouble, tmp_path: Path) -> None:
    server.go_on.clear()
    user = Conversation(server, tmp_path, "Hi")
    user.wait_for("wörld")
    user.process.send_signal(signal.SIGINT)
    assert user.end() == (130, "")
