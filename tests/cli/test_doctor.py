from __future__ import annotations

import json
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from mlxsrv.backends import blas
from tests.cli.command import mlxsrv


@pytest.mark.slow
def test_doctor_tells_the_truth(tmp_path: Path) -> None:
    (tmp_path / "hf" / "hub" / "models--org--broken" / "blobs").mkdir(parents=True)
    done = mlxsrv(tmp_path, "doctor", "--json", MLXSRV_BUDGET_BYTES="1GB")
    found = json.loads(done.stdout)
    assert done.returncode == 0
    assert found["problems"] == []
    assert found["python"] == f"{platform.python_version()} ({sys.executable})"
    assert found["packages"]["transformers"] == version("transformers")
    assert found["backend"]["name"] in found["tried"]
    for tried in found["tried"].values():
        assert tried["gflops"] > 0
    assert found["memory"]["budget_bytes"] == 1_000_000_000
    assert found["memory"]["total_bytes"] == os.sysconf("SC_PAGE_SIZE") * os.sysconf(
        "SC_PHYS_PAGES"
    )
    assert found["hub"] == {"folder": str(tmp_path / "hf" / "hub"), "models": 1, "bytes": 0}
    assert "demo-chat" in found["demo_models"]
    if blas.library() is not None:
        assert found["tried"]["mlx"]["openblas"] is True
        assert str(blas.library()) in found["blas"]


@pytest.mark.slow
def test_doctor_says_what_makes_serving_impossible(tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text("[engine]\nslice_ms = 0\n", encoding="utf-8")
    done = mlxsrv(tmp_path, "doctor", "--config", "m.toml", MLXSRV_BLAS="off")
    assert done.returncode == 1
    assert "problem: m.toml:2: engine.slice_ms: Input should be greater than 0" in done.stdout
    if blas.library() is not None:
        assert "MLX's reference BLAS (MLXSRV_BLAS=off)" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["mlx", "torch"])
def test_doctor_sees_what_is_not_installed(missing: str, tmp_path: Path) -> None:
    """A package of the same name that fails to import stands in for a broken one."""
    broken = tmp_path / "broken" / missing
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('no GPU library')\n", encoding="utf-8")
    path = f"{tmp_path / 'broken'}:{os.getcwd()}"
    done = mlxsrv(tmp_path, "doctor", "--backend", missing, PYTHONPATH=path)
    assert done.returncode == 1
    problem = f"problem: the {missing} backend does not work: ImportError: no GPU library"
    assert problem in done.stdout
