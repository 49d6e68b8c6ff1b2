"""Starts servers on free loopback ports, holds them still, and ends them by their pid."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mlxsrv.bench import client, processes
from mlxsrv.bench.answer import OK
from mlxsrv.bench.checkpoints import Checkpoint
from mlxsrv.bench.client import Endpoint
from mlxsrv.bench.http1 import BrokenAnswer
from mlxsrv.bench.recipes import Recipe
from mlxsrv.bench.subjects import Subject
from mlxsrv.core.errors import LoadError

START_SECONDS = 180.0
STOP_SECONDS = 15.0
POLL_SECONDS = 0.01
LAST_LINES = 3


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True, slots=True)
class Child:
    """A process that we started, with those that it started in turn."""

    process: subprocess.Popen[bytes]

    def pause(self) -> None:
        """Holds it still, so that what it does when idle costs those that are measured nothing."""
        processes.signal_tree(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        processes.signal_tree(self.process.pid, signal.SIGCONT)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.resume()
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                processes.signal_tree(self.process.pid, signal.SIGKILL)
                self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers, and how long it took from the command to its first 200."""

    child: Child
    subject: Subject
    start_seconds: float


def spawn(command: list[str], environment: dict[str, str], log: IO[bytes]) -> Child:
    """Starts a process that Ctrl-C on the terminal does not reach. Raises LoadError."""
    try:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    except OSError as error:
        raise LoadError(f"can't start {command[0]}: {error.strerror}") from error
    return Child(process)


async def launch(
    recipe: Recipe, checkpoint: Checkpoint, logs: Path, flags: Sequence[str] = ()
) -> Server:
    """Raises LoadError with the server's own words where it does not come up."""
    if recipe.name == "llama_cpp":
        from mlxsrv.bench import gguf_export

        gguf_export.ensure(checkpoint)
    port = free_port()
    endpoint = Endpoint("127.0.0.1", port, recipe.model_name(checkpoint))
    path = logs / f"{recipe.name.replace(' ', '-')}-{checkpoint.name}.log"
    began = time.perf_counter()
    with path.open("wb") as log:
        command = [*recipe.command(recipe.bin, checkpoint, port), *flags]
        child = spawn(command, recipe.environment(checkpoint), log)
    try:
        await _wait_until_ready(child, endpoint, recipe, path)
    except BaseException:
        child.stop()
        raise
    seconds = time.perf_counter() - began
    subject = Subject(recipe.name, recipe.family, endpoint, child.process.pid, recipe.ours)
    return Server(child, subject, seconds)


async def _wait_until_ready(child: Child, endpoint: Endpoint, recipe: Recipe, log: Path) -> None:
    deadline = time.perf_counter() + START_SECONDS
    while child.process.poll() is None and time.perf_counter() < deadline:
        try:
            if (await client.get(endpoint, recipe.health)).status == OK:
                return
        except (OSError, BrokenAnswer):
            pass
        await asyncio.sleep(POLL_SECONDS)
    raise LoadError(f"{recipe.name} does not come up: {_last_words(log)}")


def _last_words(log: Path) -> str:
    said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return " | ".join(said[-LAST_LINES:]) or "it said nothing"
