"""Imports happen in processes of their own: in this one everything is imported already."""

from __future__ import annotations

import subprocess
import sys

IMPORT = """
import gc
from mlxsrv.backends.importing import import_library
from mlxsrv.backends.isolate import hide_torch

hide_torch()
collections = []
gc.callbacks.append(lambda phase, info: collections.append(info["generation"]))
import_library("mlx")
assert collections == [], collections
assert gc.isenabled()
frozen = gc.get_freeze_count()
assert frozen > 50_000, frozen
"""

INDEX = """
import sys
import transformers.models
from transformers.utils.import_utils import define_import_structure

read = define_import_structure(transformers.models.__file__)
assert len(read) > 1, "the library's own index is back in its place"
names = {name for modules in read.values() for defined in modules.values() for name in defined}
assert len(names) > 1000, len(names)
assert names <= set(dir(transformers.models)), names - set(dir(transformers.models))
from transformers.models.qwen3 import Qwen3Config
assert Qwen3Config().model_type == "qwen3"
"""


def run(script: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_library_is_imported_without_the_collector_and_with_a_true_index() -> None:
    run(IMPORT + INDEX)
