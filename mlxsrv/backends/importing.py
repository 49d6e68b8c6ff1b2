"""Bringing a backend's library into the process, which is most of a start."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path

from mlxsrv.backends.select import Backend
from mlxsrv.core.collector import uncollected

SPINS = "20000"
"""Fractions of a millisecond, in libgomp's unit. Its default makes torch's threads wait for each
other in a busy loop for many: where another program has one of the cores, that loop takes the
time of the thread it waits for, and an operation two to seven times as long."""


def import_library(backend: Backend) -> None:
    """Imports all that the backend's text models need; takes seconds. Raises ImportError."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    with uncollected():
        _index_transformers_once()
        import_module(f"mlxsrv.backends.{backend}.load")


def _index_transformers_once() -> None:
    """Imports `transformers.models` with the index that `transformers` has just made.

    Both list what 1,600 files define, and read them for it, for a fifth of a second each: the
    library's own cache is smaller than the list.
    """
    import transformers
    from transformers.utils import import_utils

    make = import_utils.define_import_structure
    known = make(Path(transformers.__file__).parent / "models", prefix="models")
    own = {
        backends: {
            name.removeprefix("models."): defined
            for name, defined in modules.items()
            if name.startswith("models.")
        }
        for backends, modules in known.items()
    }
    import_utils.define_import_structure = lambda _: own
    try:
        import_module("transformers.models")
    finally:
        import_utils.define_import_structure = make
