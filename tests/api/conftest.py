"""The models that the text routes are tried on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from mlxsrv.config.settings import ModelSettings
from mlxsrv.core.kinds import Kind
from tests import tiny_encoders, tiny_models
from tests.api.serving import Server, serving

THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n{% if enable_thinking is not defined or enable_thinking %}<think>\n"
    "{% else %}<think>\n\n</think>\n\n{% endif %}"
)


class Servers:
    """A server per backend, each started when it is first asked for."""

    def __init__(self, held: ExitStack, models: dict[str, ModelSettings], **api: Any) -> None:
        self._held = held
        self._models = models
        self._api = api
        self._running: dict[str, Server] = {}

    def on(self, backend: str) -> Server:
        if backend not in self._running:
            server = self._held.enter_context(serving(backend, self._models, **self._api))
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


@pytest.fixture(scope="session")
def embedding_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoders") / "mini"
    tiny_encoders.build(folder, "bert")
    return folder


@pytest.fixture(scope="session")
def encoder_servers(embedding_folder: Path) -> Iterator[Servers]:
    """mini: a plain embedding model; prompted: one with prompts and fewer dimensions by
    configuration; cross: a cross-encoder; judge: a language model that reranks."""
    root = embedding_folder.parent
    tiny_encoders.build(root / "prompted", "xlm-roberta", seed=1)
    prompts = {"prompts": {"query": "who what ? ", "passage": "the book "}}
    tiny_encoders.edit(root / "prompted" / "config_sentence_transformers.json", prompts)
    one_label = {"num_labels": 1}
    auto = "AutoModelForSequenceClassification"
    tiny_encoders.build(root / "cross", "bert", auto=auto, config=one_label, seed=2)
    judge = root / "judge-reranker"
    longer = {"max_position_embeddings": 256}
    tiny_encoders.build(judge, "qwen3", auto="AutoModelForCausalLM", config=longer, seed=3)
    tiny_encoders.edit(judge / "tokenizer_config.json", {"model_max_length": 256})
    models = {
        "mini": ModelSettings(path=str(embedding_folder)),
        "prompted": ModelSettings(path=str(root / "prompted"), dimensions=8),
        "cross": ModelSettings(path=str(root / "cross")),
        "judge": ModelSettings(path=str(judge), type=Kind.RERANK),
    }
    with ExitStack() as held:
        yield Servers(held, models)


@pytest.fixture(params=["mlx", "torch"])
def encoder_server(request: pytest.FixtureRequest, encoder_servers: Servers) -> Server:
    """For behaviour, which has to be the same on both backends."""
    return encoder_servers.on(request.param)


@pytest.fixture
def one_encoder_server(encoder_servers: Servers) -> Server:
    """For what happens before a backend is asked."""
    return encoder_servers.on("torch")
