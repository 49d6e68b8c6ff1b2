"""A registry with a real device thread and real tiny models."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from mlxsrv.backends.device import Device
from mlxsrv.backends.load import at_thread_exit
from mlxsrv.backends.select import Backend, Choice
from mlxsrv.config.settings import (
    ApiSettings,
    EngineSettings,
    HubSettings,
    MemorySettings,
    ModelSettings,
    Settings,
)
from mlxsrv.engines.model import TextModel
from mlxsrv.registry import Registry
from tests.tiny_models import Shape, build

T = TypeVar("T")
SHAPE = Shape(hidden=128, layers=2, intermediate=256, vocabulary=2000)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders `a`, `b` and `c` with models of one size; that of `d` has a long context."""
    root = tmp_path_factory.mktemp("models")
    for seed, name in enumerate("abc"):
        build(root / name, "llama", SHAPE, seed=seed)
    build(root / "d", "llama", replace(SHAPE, context=8192))
    return root


@pytest.fixture(params=["torch", "mlx"])
def backend(request: pytest.FixtureRequest) -> Backend:
    name: Backend = request.param
    return name


@pytest.fixture
def run(folders: Path, backend: Backend) -> Callable[..., Any]:
    """Runs a test with a registry of the models it names."""

    def main(test: Callable[[Registry], Awaitable[T]], **options: Any) -> T:
        async def inside() -> T:
            async with registry(folders, backend, **options) as ready:
                return await test(ready)

        return asyncio.run(inside())

    return main


@asynccontextmanager
async def registry(
    folders: Path,
    backend: Backend,
    *,
    names: str = "ab",
    budget: int | None = None,
    ttl: float | None = None,
    settings_of: dict[str, dict[str, Any]] | None = None,
    allowed: tuple[Path, ...] = (),
) -> AsyncIterator[Registry]:
    models = {
        name: ModelSettings(
            path=str(folders / name), preload=False, **(settings_of or {}).get(name, {})
        )
        for name in names
    }
    settings = Settings.model_validate(
        {
            "api": ApiSettings(models=models),
            "engine": EngineSettings(backend=backend, prefix_cache_bytes=0),
            "memory": MemorySettings.model_validate({"budget_bytes": budget, "ttl": ttl}),
            "hub": HubSettings(allowed_folders=allowed),
        }
    )
    device = Device(at_exit=functools.partial(at_thread_exit, backend))
    device.start()
    made = Registry(settings, device, Choice(backend, "a test", "cpu"))
    try:
        await made.start()
        yield made
    finally:
        await made.stop()
        await device.stop()


async def needs(made: Registry, name: str = "a") -> dict[str, int]:
    """What one model holds once it is in memory."""
    async with made.lease(name, TextModel):
        return dict(made.memory().held)
