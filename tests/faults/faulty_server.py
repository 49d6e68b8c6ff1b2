"""`mlxsrv` whose text backend fails on request: a request's seed says how, at its third step."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from mlxsrv import supervisor
from mlxsrv.backends import load
from mlxsrv.backends.base import TextBackend
from mlxsrv.cli import main
from mlxsrv.core.text import Sequence, TokenOut
from mlxsrv.supervised import VARIABLE

STEP = 3
RAISE, KILL_DEVICE, ABORT = 1_000_001, 1_000_002, 1_000_003


def fail() -> NoReturn:
    raise RuntimeError("injected: a failed step")


def kill_device() -> NoReturn:
    raise SystemExit("injected: past every handler of the device thread")


FAULTS: dict[int, Callable[[], NoReturn]] = {
    RAISE: fail,
    KILL_DEVICE: kill_device,
    ABORT: os.abort,
}


def faulty(backend: TextBackend) -> TextBackend:
    """`backend` itself, with its steps counted for the requests that ask for a fault."""
    insert, step = backend.insert, backend.step
    steps: dict[int, tuple[int, Callable[[], NoReturn]]] = {}

    def inserting(sequence: Sequence, *rest: Any) -> None:
        if sequence.sampling.seed in FAULTS:
            # A batch that failed is inserted again: the fault stays with its request.
            steps.setdefault(sequence.uid, (0, FAULTS[sequence.sampling.seed]))
        insert(sequence, *rest)

    def stepping() -> list[TokenOut]:
        outs = step()
        for out in outs:
            if out.uid in steps:
                count, fault = steps[out.uid]
                steps[out.uid] = (count + 1, fault)
                if count + 1 >= STEP:
                    fault()
        return outs

    backend.insert = inserting  # type: ignore[method-assign, assignment]
    backend.step = stepping  # type: ignore[method-assign]
    return backend


def install() -> None:
    load_text = load.load_text

    def loading(*args: Any, **options: Any) -> load.Loading[TextBackend]:
        return faulty((yield from load_text(*args, **options)))

    load.load_text = loading


if __name__ == "__main__":
    if VARIABLE in os.environ:
        print(f"pid {os.getpid()}", flush=True)
        install()
    supervisor.FIRST_DELAY = supervisor.LONGEST_DELAY = 0.1
    sys.exit(main())
