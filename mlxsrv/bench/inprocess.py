"""The library without a server: a child process that generates when told to.

Run as a module it is that child: `python -m mlxsrv.bench.inprocess BACKEND FOLDER` reads a
job a line, as JSON, and writes when each token was there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from mlxsrv.backends import blas
from mlxsrv.backends.select import Backend
from mlxsrv.bench import jobs, worker
from mlxsrv.bench.answer import Answer
from mlxsrv.bench.checkpoints import Checkpoint
from mlxsrv.bench.subjects import Chat, Work
from mlxsrv.bench.words import Speaker
from mlxsrv.bench.worker import Worker

LIBRARIES = {"mlx": "BatchGenerator", "torch": "transformers loop"}


@dataclass(frozen=True, slots=True)
class InProcess:
    """Implements what the throughput scenario asks of a subject."""

    worker: Worker
    family: Backend
    speaker: Speaker

    async def generate(self, chats: Sequence[Chat], work: Work) -> list[Answer]:
        """Raises LoadError where the child has died."""
        if work.api == "chat":
            prompts = [self.speaker.chat_ids(chat) for chat in chats]
        else:
            prompts = [self.speaker.ids(chat[-1].content) for chat in chats]
        found = await self.worker.do(prompts=prompts, max_tokens=work.max_tokens)
        return [Answer(0.0, times[-1], tuple(times), tokens=len(times)) for times in found]


def launch(backend: Backend, checkpoint: Checkpoint, logs: Path) -> InProcess:
    """Starts the child; its first job waits until the model is loaded."""
    environment = dict(os.environ)
    library = blas.library()
    if backend == "mlx" and library is not None:
        environment["LD_PRELOAD"] = str(library)
    started = worker.start(
        LIBRARIES[backend],
        __name__,
        (backend, str(checkpoint.folder)),
        environment,
        logs / f"limit-{backend}-{checkpoint.name}.log",
    )
    return InProcess(started, backend, Speaker(checkpoint.vocabulary, 0))


def main(backend: str, folder: str) -> None:
    from mlxsrv.backends.limit import load_limit

    jobs.serve(lambda: load_limit(cast(Backend, backend), Path(folder)).generate)


if __name__ == "__main__":
    main(*sys.argv[1:3])
