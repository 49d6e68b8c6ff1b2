from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlxsrv.backends import blas

LIBRARY = Path("/usr/lib/x86_64-linux-gnu/openblas-pthread/libblas.so.3")

SCRIPT = """
import json, os
from mlxsrv.backends import blas
blas.ensure()
print(json.dumps([blas.loaded(blas.library()), os.environ.get("LD_PRELOAD"),
                  os.environ.get("MLXSRV_BLAS")]))
"""


def test_the_library_is_put_before_what_is_preloaded_already() -> None:
    changed = blas.preloading({"LD_PRELOAD": "/lib/x.so", "A": "b"}, LIBRARY)
    assert changed == {
        "LD_PRELOAD": f"{LIBRARY}:/lib/x.so",
        "MLXSRV_BLAS": "preloaded",
        "A": "b",
    }


@pytest.mark.parametrize("value", ["off", "OFF", "preloaded"])
def test_it_can_be_turned_off_and_never_loops(value: str) -> None:
    assert blas.preloading({"MLXSRV_BLAS": value}, LIBRARY) is None
    assert blas.preloading({}, None) is None


@pytest.mark.parametrize("before", [{}, {"LD_PRELOAD": "/lib/x.so"}])
def test_child_processes_get_the_environment_of_before(before: dict[str, str]) -> None:
    changed = blas.preloading(before, LIBRARY)
    assert changed is not None
    blas.settle(changed, LIBRARY)
    assert changed == before


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.skipif(sys.platform != "linux", reason="macOS has Accelerate")
def test_debian_package_is_found(machine: str, tmp_path: Path) -> None:
    assert blas.library(machine, tmp_path) is None
    file = tmp_path / f"usr/lib/{machine}-linux-gnu/openblas-pthread/libblas.so.3"
    file.parent.mkdir(parents=True)
    file.touch()
    assert blas.library(machine, tmp_path) == file


@pytest.mark.skipif(blas.library() is None, reason="OpenBLAS is not installed")
@pytest.mark.parametrize(("switch", "preloaded"), [(None, True), ("off", False)])
def test_a_process_starts_itself_again_with_it(
    switch: str | None, preloaded: bool, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    kept = {k: v for k, v in os.environ.items() if k not in {"LD_PRELOAD", blas.SWITCH}}
    environment = {**kept, "PYTHONPATH": os.getcwd()}
    if switch is not None:
        environment[blas.SWITCH] = switch
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == [preloaded, None, switch]
