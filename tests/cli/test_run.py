"""`mlxsrv run` with a server of its own: the real thing, on the built-in demo model."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from tests.cli.command import mlxsrv


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["mlx", "torch"])
def test_one_question_starts_and_stops_a_server(backend: str, tmp_path: Path) -> None:
    words = ["run", "demo", "What is two plus three?", "--temperature", "0"]
    done = mlxsrv(tmp_path, *words, "--backend", backend, MLXSRV_ADDRESS="127.0.0.1:9")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()
    assert not processes_of(tmp_path)


def processes_of(home: Path) -> list[str]:
    """Processes that still run with the home folder of the test."""
    mark = f"HOME={home}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (process / "environ").read_bytes().split(b"\0"):
                found.append(process.name)
    return found


def test_a_server_that_does_not_come_up_says_why(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = mlxsrv(tmp_path, "run", "./empty", "Hi", MLXSRV_ADDRESS="127.0.0.1:9")
    assert done.returncode == 1
    assert done.stderr == "mlxsrv: error: empty holds no model weights (*.safetensors)\n"
