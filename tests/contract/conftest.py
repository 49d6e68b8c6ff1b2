"""Each backend on tiny checkpoints, in this process and thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlxsrv.backends import checkpoint
from mlxsrv.backends.base import TextBackend
from mlxsrv.backends.load import at_thread_exit, finished, load_text
from mlxsrv.backends.pacing import PrefillPacer
from mlxsrv.backends.select import Backend
from tests.tiny_models import build, shape_of

BACKENDS: tuple[Backend, ...] = ("torch", "mlx")
Load = Callable[..., TextBackend]


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny checkpoint of some architecture, built once."""
    root = tmp_path_factory.mktemp("checkpoints")

    def folder(architecture: str) -> Path:
        path = root / architecture
        return path if path.exists() else build(path, architecture, shape_of(architecture))

    return folder


@pytest.fixture(scope="session")
def mlx_thread() -> Iterator[None]:
    """This thread uses MLX until the tests end."""
    yield
    at_thread_exit("mlx")


@pytest.fixture(scope="session")
def load(folder_of: Callable[[str], Path], mlx_thread: None) -> Load:
    """Loads a checkpoint on a backend, once each."""
    loaded: dict[tuple[str, str], TextBackend] = {}

    def get(backend: Backend, architecture: str | Path = "qwen3", chunk: int = 16) -> TextBackend:
        key = backend, str(architecture)
        if key not in loaded:
            folder = folder_of(architecture) if isinstance(architecture, str) else architecture
            pacer = PrefillPacer(0.05, fixed=chunk)
            loaded[key] = finished(load_text(backend, checkpoint.read(folder), pacer=pacer))
        return loaded[key]

    return get


@pytest.fixture(params=BACKENDS)
def backend_name(request: pytest.FixtureRequest) -> Backend:
    name: Backend = request.param
    return name
