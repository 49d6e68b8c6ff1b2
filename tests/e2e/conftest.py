"""A server on the built-in demo model per backend, each started when first asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.e2e.process import Process, serve

BACKENDS = ("mlx", "torch")


@pytest.fixture(scope="session")
def demo_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Process]]:
    with ExitStack() as held:
        yield _Demo(held, tmp_path_factory)


class _Demo(dict[str, Process]):
    def __init__(self, held: ExitStack, tmp_path_factory: pytest.TempPathFactory) -> None:
        super().__init__()
        self._held = held
        self._homes = tmp_path_factory

    def __missing__(self, backend: str) -> Process:
        home = self._homes.mktemp(f"home-{backend}")
        server = self._held.enter_context(serve(home, "--backend", backend))
        self[backend] = server
        return server


@pytest.fixture(params=BACKENDS)
def demo(request: pytest.FixtureRequest, demo_servers: dict[str, Process]) -> Process:
    return demo_servers[request.param]


@pytest.fixture
def share(request: pytest.FixtureRequest) -> slice:
    """Which of many questions the server of `demo` is asked: half of them each, so that together
    they are asked all."""
    return slice(BACKENDS.index(request.node.callspec.params["demo"]), None, len(BACKENDS))


@pytest.fixture
def demo_on_torch(demo_servers: dict[str, Process]) -> Process:
    """For what does not depend on the backend."""
    return demo_servers["torch"]
