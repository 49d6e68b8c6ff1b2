"""A child process that does one job at a time: a line of JSON in, a line of JSON out."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlxsrv.bench.servers import Child
from mlxsrv.core.errors import LoadError


@dataclass(frozen=True, slots=True)
class Worker:
    """What it does is up to the module that it runs."""

    name: str
    child: Child

    async def do(self, **job: Any) -> Any:
        """Raises LoadError where the child has died."""
        return json.loads(await asyncio.to_thread(self._exchange, json.dumps(job)))

    def _exchange(self, job: str) -> bytes:
        process = self.child.process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(job.encode() + b"\n")
            process.stdin.flush()
        except OSError as error:
            raise LoadError(f"{self.name} has ended: {error}") from error
        line = process.stdout.readline()
        if not line:
            raise LoadError(f"{self.name} has ended")
        return line


def start(
    name: str, module: str, arguments: Sequence[str], environment: Mapping[str, str], log: Path
) -> Worker:
    """Starts `python -m module arguments`; its first job waits until it is ready."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=file,
            start_new_session=True,
        )
    return Worker(name, Child(process))
