"""An image model without a server: a child process that makes pictures when told to.

Run as a module it is that child: `python -m mlxsrv.bench.pictures NAME BACKEND FOLDER`.
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

DIFFUSERS = "diffusers"
LIBRARIES: dict[Backend, tuple[str, ...]] = {
    "mlx": ("MLX backend alone",),
    "torch": (DIFFUSERS, "torch backend alone"),
}
"""Our own code without a server shows what the server adds; for MLX there is nothing else that
makes pictures of all sizes."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """Makes pictures in process."""

    worker: Worker

    async def draw(self, prompt: str, side: int, steps: int, seed: int) -> tuple[float, float]:
        """The seconds a square picture took, as PNG, and how bright it is (0..255).

        Raises LoadError where the child has died.
        """
        job = {"prompt": prompt, "side": side, "steps": steps, "seed": seed}
        seconds, brightness = await self.worker.do(**job)
        return float(seconds), float(brightness)


def installed(name: str) -> bool:
    return name != DIFFUSERS or find_spec(DIFFUSERS) is not None


def launch(name: str, backend: Backend, checkpoint: Checkpoint, logs: Path) -> Pictures:
    """Starts the child; its first job waits until the model is loaded."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    library = blas.library()
    if backend == "mlx" and library is not None:
        environment["LD_PRELOAD"] = str(library)
    log = logs / f"limit-pictures-{name.replace(' ', '-')}-{checkpoint.name}.log"
    words = [name, backend, str(checkpoint.folder)]
    return Pictures(worker.start(name, __name__, words, environment, log))


def main(name: str, backend: str, folder: str) -> None:
    from mlxsrv.backends import limit

    if name == DIFFUSERS:
        jobs.serve(lambda: limit.load_diffusers(Path(folder)).draw)
    else:
        jobs.serve(lambda: limit.load_pictures(cast(Backend, backend), Path(folder)).draw)


if __name__ == "__main__":
    main(*sys.argv[1:4])
