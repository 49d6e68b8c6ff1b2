"""A server of our own, for as long as a command needs it."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mlxsrv.cli.client import Client, ServerAbsent
from mlxsrv.core.errors import LoadError

POLL_SECONDS = 0.05
STOP_SECONDS = 10.0
NOT_READY = frozenset({503})


@contextmanager
def server(model: str, flags: Sequence[str], api_key: str | None) -> Iterator[Client]:
    """Serves `model` on a free loopback port until the block ends, quietly.

    Raises LoadError with the server's own words where it does not come up.
    """
    port = _free_port()
    client = Client(f"http://127.0.0.1:{port}", api_key)
    command = [sys.executable, "-m", "mlxsrv", "serve", model, "--host", "127.0.0.1"]
    command += ["--port", str(port), "--ports", "", "--log-level", "warning", "--no-supervise"]
    command += flags
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "server.log"
        with log.open("wb") as sink:
            # A session of its own: Ctrl-C in the conversation must not reach the server.
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )
        try:
            _wait_until_ready(process, client, log)
            yield client
        finally:
            _stop(process)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(process: subprocess.Popen[bytes], client: Client, log: Path) -> None:
    while process.poll() is None:
        with contextlib.suppress(ServerAbsent):
            if client.get("/health", accept=NOT_READY).get("status") == "ok":
                return
        time.sleep(POLL_SECONDS)
    raise LoadError(_last_words(log) or f"the server stopped with exit code {process.returncode}")


def _last_words(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    mark = "mlxsrv: error: "
    errors = [line.partition(mark)[2] for line in lines if mark in line]
    return "\n".join(errors or lines[-1:])


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
