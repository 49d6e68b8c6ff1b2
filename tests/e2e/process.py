"""The server as a user starts it: a process of its own, asked over HTTP."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from openai import OpenAI

ROOT = Path(__file__).parents[2]
ADDRESS = re.compile(r"^\s+(http://\S+)")


@dataclass
class Process:
    """A running `mlxsrv serve`, and all that it has printed so far."""

    child: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)
    ready: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return self.urls[0]

    @property
    def output(self) -> str:
        return "".join(self.lines)

    def openai(self, **options: object) -> OpenAI:
        settings = {"base_url": f"{self.url}/v1", "api_key": "unused", "max_retries": 0} | options
        return OpenAI(**settings)  # type: ignore[arg-type]

    def metric(self, name: str) -> float:
        """The value of a metric without labels."""
        found = re.search(rf"^{name} (\S+)$", httpx.get(f"{self.url}/metrics").text, re.MULTILINE)
        assert found is not None, f"no metric {name}"
        return float(found.group(1))

    def stop(self, sign: signal.Signals = signal.SIGTERM) -> int:
        """Ends the process by its pid and returns its exit code."""
        self.child.send_signal(sign)
        return self.child.wait(60)

    def read(self) -> None:
        assert self.child.stdout is not None
        for line in self.child.stdout:
            self.lines.append(line)
            address = ADDRESS.match(line)
            if address is not None:
                self.urls.append(address.group(1))
            if "stop with Ctrl-C" in line:
                self.ready.set()
        self.ready.set()


def environment(home: Path) -> dict[str, str]:
    """An empty home folder, and no hub in reach."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLXSRV_")}
    return kept | {"HOME": str(home), "HF_ENDPOINT": "http://127.0.0.1:9", "PYTHONPATH": str(ROOT)}


@contextmanager
def serve(
    home: Path, *arguments: str, module: str = "mlxsrv", **variables: str
) -> Iterator[Process]:
    """Runs `mlxsrv serve` on a free port until the block ends."""
    child = subprocess.Popen(
        [sys.executable, "-m", module, "serve", "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(home) | variables,
        cwd=home,
    )
    process = Process(child)
    reader = threading.Thread(target=process.read)
    reader.start()
    try:
        assert process.ready.wait(120), process.output
        assert process.urls, process.output
        yield process
    finally:
        if child.poll() is None:
            child.terminate()
            try:
                child.wait(60)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        reader.join()
        assert child.stdout is not None
        child.stdout.close()
