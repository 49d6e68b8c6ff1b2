"""The library without a server: a child process that generates when told to.

Run as a module it is that child: `python -m mlxsrv.bench.inprocess BACKEND FOLDER` reads a
job a line, as JSON, and writes when each token was there.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from mlxsrv.backends import blas
from mlxsrv.backends.select import Backend
from mlxsrv.bench.answer import Answer
from mlxsrv.bench.checkpoints import Checkpoint
from mlxsrv.bench.servers import Child
from mlxsrv.bench.subjects import Chat, Work
from mlxsrv.bench.words import Speaker
from mlxsrv.core.errors import LoadError

LIBRARIES = {"mlx": "BatchGenerator", "torch": "transformers loop"}


@dataclass(frozen=True, slots=True)
class InProcess:
    """Implements what the throughput scenario asks of a subject."""

    name: str
    family: Backend
    child: Child
    speaker: Speaker

    async def generate(self, chats: Sequence[Chat], work: Work) -> list[Answer]:
        """Raises LoadError where the child has died."""
        if work.api == "chat":
            prompts = [self.speaker.chat_ids(chat) for chat in chats]
        else:
            prompts = [self.speaker.ids(chat[-1].content) for chat in chats]
        job = json.dumps({"prompts": prompts, "max_tokens": work.max_tokens})
        line = await asyncio.to_thread(self._exchange, job)
        return [
            Answer(0.0, times[-1], tuple(times), tokens=len(times)) for times in json.loads(line)
        ]

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


def launch(backend: Backend, checkpoint: Checkpoint, logs: Path) -> InProcess:
    """Starts the child; its first job waits until the model is loaded."""
    environment = dict(os.environ)
    library = blas.library()
    if backend == "mlx" and library is not None:
        environment["LD_PRELOAD"] = str(library)
    name = LIBRARIES[backend]
    command = [sys.executable, "-m", "mlxsrv.bench.inprocess", backend, str(checkpoint.folder)]
    with (logs / f"limit-{backend}-{checkpoint.name}.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
    return InProcess(name, backend, Child(process), Speaker(checkpoint.vocabulary, 0))


def main(backend: str, folder: str) -> None:
    from mlxsrv.backends.limit import load_limit

    # Libraries print what they like; only answers may reach the parent.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    limit = load_limit(cast(Backend, backend), Path(folder))
    for line in sys.stdin:
        print(json.dumps(limit.generate(**json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:3])
