"""sentence-transformers without a server: a child process that embeds when told to.

Run as a module it is that child: `python -m mlxsrv.bench.sentences FOLDER`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from mlxsrv.bench import jobs, worker
from mlxsrv.bench.checkpoints import Checkpoint
from mlxsrv.bench.worker import Worker

NAME = "sentence-transformers"


@dataclass(frozen=True, slots=True)
class Sentences:
    """Embeds in process, all texts in one call."""

    worker: Worker

    async def seconds(self, texts: Sequence[str]) -> float:
        """How long all vectors took. Raises LoadError where the child has died."""
        return float(await self.worker.do(texts=texts))


def installed() -> bool:
    return find_spec("sentence_transformers") is not None


def launch(checkpoint: Checkpoint, logs: Path) -> Sentences:
    """Starts the child; its first job waits until the model is loaded."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    log = logs / f"limit-sentences-{checkpoint.name}.log"
    return Sentences(worker.start(NAME, __name__, [str(checkpoint.folder)], environment, log))


def main(folder: str) -> None:
    from mlxsrv.backends.limit import load_sentences

    jobs.serve(lambda: load_sentences(Path(folder)).seconds)


if __name__ == "__main__":
    main(sys.argv[1])
