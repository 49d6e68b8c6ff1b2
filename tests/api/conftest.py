"""The models that the text routes are tried on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mlxsrv.config.settings import ModelSettings
from tests import tiny_models
from tests.api.serving import Server, serving

THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n{% if enable_thinking is not defined or enable_thinking %}<think>\n"
    "{% else %}<think>\n\n</think>\n\n{% endif %}"
)


class Servers:
    """A server per backend, each started when it is first asked for."""

    def __init__(self, held: ExitStack, models: dict[str, ModelSettings]) -> None:
        self._held = held
        self._models = models
        self._running: dict[str, Server] = {}

    def on(self, backend: str) -> Server:
        if backend not in self._running:
            server = self._held.enter_context(serving(backend, self._models))
            self._running[backend] = server
        return self._running[backend]


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.build(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def servers(tiny_folder: Path) -> Iterator[Servers]:
    """tiny: an ordinary chat model; thinker: opens its reasoning itself; bare: no template."""
    root = tiny_folder.parent
    thinker = tiny_models.build(root / "thinker", seed=1, chat_template=THINKING)
    bare = tiny_models.build(root / "bare", "llama", seed=2, chat_template=None)
    models = {
        "tiny": ModelSettings(path=str(tiny_folder), aliases=("small", "org/tiny")),
        "thinker": ModelSettings(path=str(thinker)),
        "bare": ModelSettings(path=str(bare)),
    }
    with ExitStack() as held:
        yield Servers(held, models)


@pytest.fixture(params=["mlx", "torch"])
def server(request: pytest.FixtureRequest, servers: Servers) -> Server:
    """For behaviour, which has to be the same on both backends."""
    return servers.on(request.param)


@pytest.fixture
def one_server(servers: Servers) -> Server:
    """For what happens before a backend is asked."""
    return servers.on("torch")
