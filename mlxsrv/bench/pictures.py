"""An image model without a server: a child process that makes pictures when told to.

Run as a module it is that child: `python -m mlxsrv.bench.pictures BACKEND FOLDER`.
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
from mlxsrv.bench import jobs, worker
from mlxsrv.bench.checkpoints import Checkpoint
from mlxsrv.bench.worker import Worker

LIBRARIES: dict[Backend, str] = {"mlx": "the backend alone", "torch": "diffusers"}
"""No library makes pictures with MLX at all sizes, so there it is our own code that shows what
the server adds."""
_MODULES: dict[Backend, str] = {"mlx": "mlx", "torch": "diffusers"}


@dataclass(frozen=True, slots=True)
class Pictures:
    """Makes pictures in process."""

    worker: Worker

    async def draw(self, prompt: str, side: int, steps: int, seed: int) -> tuple[float, int]:
        """The seconds a square picture took, as PNG, and a checksum of its pixels.

        Raises LoadError where the child has died.
        """
        job = {"prompt": prompt, "side": side, "steps": steps, "seed": seed}
        seconds, checksum = await self.worker.do(**job)
        return float(seconds), int(checksum)


def installed(backend: Backend) -> bool:
    return find_spec(_MODULES[backend]) is not None


def launch(backend: Backend, checkpoint: Checkpoint, logs: Path) -> Pictures:
    """Starts the child; its first job waits until the model is loaded."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    library = blas.library()
    if backend == "mlx" and library is not None:
        environment["LD_PRELOAD"] = str(library)
    log = logs / f"limit-pictures-{backend}-{checkpoint.name}.log"
    words = [backend, str(checkpoint.folder)]
    return Pictures(worker.start(LIBRARIES[backend], __name__, words, environment, log))


def main(backend: str, folder: str) -> None:
    from mlxsrv.backends.limit import load_pictures

    jobs.serve(lambda: load_pictures(cast(Backend, backend), Path(folder)).draw)


if __name__ == "__main__":
    main(*sys.argv[1:3])
