"""One server for all faults: it is there again after each of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import tiny_models
from tests.e2e.process import Process, serve


@pytest.fixture(scope="session")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A short context keeps the answers short that nothing else bounds."""
    home = tmp_path_factory.mktemp("fuzzed")
    folder = tiny_models.build(home / "tiny", shape=tiny_models.Shape(context=64))
    with serve(home, str(folder), "--backend", "torch", "--log-level", "error") as process:
        yield process


@pytest.fixture(scope="session")
def faulty_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model whose answers may be long."""
    home = tmp_path_factory.mktemp("faulty")
    tiny_models.build(home / "tiny", shape=tiny_models.Shape(context=8192))
    return home


@pytest.fixture(scope="session")
def faulty(faulty_home: Path) -> Iterator[Process]:
    """Fails where a request's seed says so; see `tests.faults.faulty_server`."""
    folder = faulty_home / "tiny"
    flags = ("--backend", "mlx", "--max-queue", "8", "--max-batch", "8")
    with serve(faulty_home, str(folder), *flags, module="tests.faults.faulty_server") as process:
        yield process
