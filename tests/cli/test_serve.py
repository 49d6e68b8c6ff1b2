"""What the command line makes of models and addresses, before anything is loaded."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from mlxsrv.backends.builtin import builtin_models
from mlxsrv.cli import serve
from mlxsrv.config.settings import Settings


@pytest.fixture(autouse=True)
def _no_config(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLXSRV_CONFIG", raising=False)


def resolve(*words: str) -> Settings:
    parser = argparse.ArgumentParser()
    serve.add_arguments(parser)
    return serve.resolve(parser.parse_args(list(words)))


def test_names_of_models(tmp_path: Path) -> None:
    cached = tmp_path / "models--org--some-model" / "snapshots" / "0123"
    folder = tmp_path / "mine"
    for each in (cached, folder):
        each.mkdir(parents=True)
    models = resolve(str(folder), "org/name@v1", str(cached)).api.models
    assert {name: model.path for name, model in models.items()} == {
        "mine": str(folder),
        "org/name": "org/name@v1",
        "org/some-model": str(cached),
    }


def test_flags_of_the_one_model() -> None:
    words = ["--name", "n", "--kind", "chat", "--model-ttl", "60", "--no-preload", "--pin"]
    more = ["--aliases", "a,b", "--context-length", "100", "--default-temperature", "0.5"]
    [(name, model)] = resolve("org/m", *words, *more).api.models.items()
    assert (name, model.path, model.type, model.ttl) == ("n", "org/m", "chat", 60)
    assert (model.preload, model.pin, model.aliases) == (False, True, ("a", "b"))
    assert (model.context_length, model.default_temperature) == (100, 0.5)


def test_flags_of_an_image_model() -> None:
    words = ["--size", "512x768", "--steps", "8", "--guidance", "4", "--quantize", "8"]
    settings = resolve("org/flux", *words, "--no-metadata", "--max-images", "3")
    [model] = settings.api.models.values()
    assert (model.default_size, model.steps, model.guidance) == ("512x768", 8, 4.0)
    assert model.quantize == 8
    assert (settings.api.image_metadata, settings.api.max_images) == (False, 3)
    assert resolve("org/flux", "--image-metadata").api.image_metadata
    [demo] = resolve("demo", "--kind", "image").api.models.values()
    assert Path(demo.path).name == "demo-image"


def test_host_and_port_beat_the_address(tmp_path: Path) -> None:
    file = tmp_path / "m.toml"
    file.write_text("[api]\naddress = '0.0.0.0:9000'\n[api.models.m]\npath = 'o/m'\n", "utf-8")
    config = ["--config", str(file)]
    assert resolve(*config, "--host", "127.0.0.1").api.address == "127.0.0.1:9000"
    assert resolve(*config, "--port", "0", "--api-key", "k").api.address == "0.0.0.0:0"
    assert resolve(*config, "--host", "::1", "--port", "1").api.address == "[::1]:1"
    assert not resolve(*config, "--host", "127.0.0.1").api.allow_unauthenticated


def test_the_demo_set_is_served_when_no_model_is_named() -> None:
    expected = {name: str(folder) for name, folder in builtin_models().items()}
    assert "demo-chat" in expected
    for words in ([], ["demo"]):
        found = resolve(*words).api.models
        assert {name: model.path for name, model in found.items()} == expected
    named = resolve("demo", "--name", "d").api.models
    assert {name: model.path for name, model in named.items()} == {"d": expected["demo-chat"]}
    assert list(resolve("demo-chat").api.models) == ["demo-chat"]


def test_the_models_of_the_file_are_kept_when_none_is_named(tmp_path: Path) -> None:
    file = tmp_path / "m.toml"
    file.write_text("[api.models.m]\npath = 'o/m'\n", "utf-8")
    assert list(resolve("--config", str(file)).api.models) == ["m"]
    assert list(resolve("x/y", "--config", str(file)).api.models) == ["x/y"]
