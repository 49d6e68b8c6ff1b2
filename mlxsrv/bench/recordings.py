"""Whisper without a server: a child process that transcribes when told to.

Run as a module it is that child: `python -m mlxsrv.bench.recordings BACKEND FOLDER`.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import cast

from mlxsrv.backends import blas
from mlxsrv.backends.select import Backend
from mlxsrv.bench import jobs, whispers, worker
from mlxsrv.bench.checkpoints import Checkpoint
from mlxsrv.bench.worker import Worker

LIBRARIES: dict[Backend, str] = {"mlx": "mlx-whisper", "torch": "transformers pipeline"}
_MODULES: dict[Backend, str] = {"mlx": "mlx_whisper", "torch": "transformers"}


@dataclass(frozen=True, slots=True)
class Recordings:
    """Transcribes in process."""

    worker: Worker

    async def transcribe(self, path: Path) -> tuple[float, str]:
        """The seconds it took, and the text. Raises LoadError where the child has died."""
        seconds, text = await self.worker.do(path=str(path))
        return float(seconds), str(text)


def installed(backend: Backend) -> bool:
    return find_spec(_MODULES[backend]) is not None


def launch(backend: Backend, checkpoint: Checkpoint, cache: Path, logs: Path) -> Recordings:
    """Starts the child; its first job waits until the model is loaded."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    folder, library = checkpoint.folder, blas.library()
    if backend == "mlx":
        folder = whispers.converted(checkpoint, cache)
        if library is not None:
            environment["LD_PRELOAD"] = str(library)
    log = logs / f"limit-recordings-{backend}-{checkpoint.name}.log"
    name = LIBRARIES[backend]
    return Recordings(worker.start(name, __name__, [backend, str(folder)], environment, log))


def main(backend: str, folder: str) -> None:
    from mlxsrv.backends.limit import load_recordings

    jobs.serve(lambda: load_recordings(cast(Backend, backend), Path(folder)).transcribe)


if __name__ == "__main__":
    main(*sys.argv[1:3])
