"""LoRA adapters beside their base, over HTTP."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from mlxsrv.config.settings import HubSettings, ModelSettings
from tests import tiny_adapters, tiny_models
from tests.api.managing import (
    assert_has,
    assert_whole,
    error,
    held,
    load,
    long_stream,
    names,
    text,
    unload,
    until,
)
from tests.api.serving import Server, serving
from tests.tiny_adapters import Recipe
from tests.tiny_models import Shape

pytestmark = pytest.mark.slow

SHAPE = Shape(context=4096)
RECIPE = Recipe(seed=1)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, adapters in both formats, and the base with one of them merged in."""
    shelf = tmp_path_factory.mktemp("shelf") / "models"
    base = tiny_models.build(shelf / "base", shape=SHAPE)
    tiny_adapters.write_peft(shelf / "peft", RECIPE, SHAPE)
    tiny_adapters.write_mlx_lm(shelf / "mlx", RECIPE, SHAPE)
    for seed in (2, 3, 4):
        tiny_adapters.write_peft(shelf / f"peft-{seed}", Recipe(seed=seed, rank=2 * seed), SHAPE)
    tiny_adapters.merge(base, shelf / "merged", tiny_adapters.matrices(RECIPE, SHAPE), RECIPE.scale)
    tiny_adapters.write_peft(shelf.parent / "outside", RECIPE, SHAPE)
    return shelf


@pytest.fixture(scope="module", params=["mlx", "torch"])
def managed(request: pytest.FixtureRequest, shelf: Path) -> Iterator[Server]:
    models = {"base": ModelSettings(path=str(shelf / "base"))}
    with serving(request.param, models, hub=HubSettings(allowed_folders=(shelf,))) as server:
        yield server


@pytest.fixture
def server(managed: Server) -> Iterator[Server]:
    """Afterwards only `base` is left."""
    yield managed
    for name in reversed(names(managed)):
        if name != "base":
            assert unload(managed, name).status_code == 200


def attach(server: Server, name: str, path: Path | str, **fields: Any) -> httpx.Response:
    body = {"model": "base", "lora_name": name, "lora_path": str(path), **fields}
    return server.post("/v1/lora/load", body)


def adapters(server: Server) -> list[dict[str, Any]]:
    answer = server.get("/v1/lora").json()
    assert answer["object"] == "list"
    found: list[dict[str, Any]] = answer["data"]
    return found


def test_an_adapter_is_a_model_beside_its_base(server: Server, shelf: Path) -> None:
    load(server, shelf / "merged")
    plain, merged = text(server, "base"), text(server, "merged")
    assert plain != merged
    before = held(server)
    answer = attach(server, "org/pirate", shelf / "peft")
    assert answer.status_code == 200, answer.text
    pirate = answer.json()
    expected = {"id": "org/pirate", "object": "lora", "model": "base", "rank": 4, "scale": 1}
    assert_has(pirate, {**expected, "path": str(shelf / "peft")})
    assert adapters(server) == [pirate]
    model = server.get("/v1/models/org/pirate").json()
    assert_has(model, {"parent": "base", "type": "chat", "memory_bytes": pirate["memory_bytes"]})
    after = held(server)
    assert after["weights"] == before["weights"]
    assert after["adapters"] == before["adapters"] + pirate["memory_bytes"]
    assert text(server, "org/pirate") == merged
    assert text(server, "base") == plain
    gone = server.post("/v1/lora/unload", {"lora_name": "org/pirate"})
    assert gone.json() == {**pirate, "deleted": True}
    assert adapters(server) == []
    assert held(server)["adapters"] == before["adapters"]
    assert server.get("/v1/models/org/pirate").status_code == 404
    assert text(server, "base") == plain


def test_both_formats_are_the_same_adapter(server: Server, shelf: Path) -> None:
    attach(server, "one", shelf / "peft")
    attach(server, "two", shelf / "mlx")
    assert text(server, "one") == text(server, "two") != text(server, "base")


def test_scale_is_how_strong_it_is(server: Server, shelf: Path) -> None:
    attach(server, "off", shelf / "peft", scale=0)
    attach(server, "weak", shelf / "peft", scale=0.4)
    attach(server, "full", shelf / "peft", scale=1.0)
    assert text(server, "off") == text(server, "base")
    assert len({text(server, name) for name in ("base", "weak", "full")}) == 3
    assert [one["scale"] for one in adapters(server)] == [0, 0.4, 1]


def test_adapters_and_their_base_at_once(server: Server, shelf: Path) -> None:
    wanted = ["base"]
    for path in ("peft", "peft-2", "peft-3", "peft-4"):
        assert attach(server, path, shelf / path).status_code == 200
        wanted.append(path)
    prompts = ("The quick", "hello world", "what is")
    alone = {(n, p): text(server, n, p, 40) for n in wanted for p in prompts}
    assert len(set(alone.values())) == len(alone)
    with ThreadPoolExecutor(len(alone)) as pool:
        together = {key: pool.submit(text, server, *key, 40) for key in alone}
        assert {key: one.result() for key, one in together.items()} == alone


def test_the_sdk_uses_lists_and_deletes_adapters(server: Server, shelf: Path) -> None:
    attach(server, "pirate", shelf / "peft")
    with server.openai() as client:
        models = {model.id: model for model in client.models.list()}
        assert (models["pirate"].model_extra or {})["parent"] == "base"
        answer = client.chat.completions.create(
            model="pirate", messages=[{"role": "user", "content": "hello"}], max_tokens=4
        )
        assert answer.model == "pirate"
        assert client.models.delete("pirate").deleted
    assert names(server) == ["base"]


def test_as_vllms_clients_do_it(server: Server, shelf: Path) -> None:
    body = {"lora_name": "sql", "lora_path": str(shelf / "peft"), "base_model_name": "base"}
    assert server.post("/v1/load_lora_adapter", body).status_code == 200
    assert [one["id"] for one in adapters(server)] == ["sql"]
    body = {"lora_name": "sql", "lora_int_id": 3}  # type: ignore[dict-item]
    assert server.post("/v1/unload_lora_adapter", body).status_code == 200
    assert adapters(server) == []


def test_a_name_that_comes_back_with_other_weights(server: Server, shelf: Path) -> None:
    """No prompt that was kept with the old weights is used with the new."""
    attach(server, "pirate", shelf / "peft")
    first = text(server, "pirate")
    assert unload(server, "pirate").json()["deleted"]
    attach(server, "pirate", shelf / "peft-2")
    attach(server, "other", shelf / "peft-2")
    assert first != text(server, "pirate") == text(server, "other")


def test_an_adapter_that_is_still_loading_is_not_answered_by_its_base(
    server: Server, shelf: Path
) -> None:
    load(server, shelf / "merged")  # or any name would mean the only model
    body = {"model": "pirate", "prompt": "The quick", "max_tokens": 1}
    with ThreadPoolExecutor(1) as pool:
        for _ in range(5):
            loading = pool.submit(attach, server, "pirate", shelf / "peft")
            while not loading.done():
                answer = server.post("/v1/completions", body)
                assert answer.status_code in {200, 404, 503}
                assert answer.json().get("model", "pirate") == "pirate"
            assert loading.result().status_code == 200
            assert unload(server, "pirate").status_code == 200


def test_unloading_an_adapter_waits_for_its_requests(server: Server, shelf: Path) -> None:
    attach(server, "pirate", shelf / "peft")
    busy: Future[None] = Future()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(long_stream, server, "pirate", 300, busy)
        busy.result(30)
        assert server.get("/v1/models/pirate").json()["requests"] == 1
        assert server.post("/v1/lora/unload", {"lora_name": "pirate"}).status_code == 200
        assert_whole(running.result())
    assert names(server) == ["base"]


def test_unloading_the_base_takes_its_adapters_along(server: Server, shelf: Path) -> None:
    load(server, shelf / "base", name="base")
    load(server, shelf / "merged", name="guest")
    assert attach(server, "pirate", shelf / "peft-2", model="guest").json()["model"] == "guest"
    before = held(server)["adapters"]
    assert before > 0
    assert unload(server, "guest").status_code == 200
    assert names(server) == ["base"]
    assert adapters(server) == []
    assert held(server)["adapters"] == 0


def test_an_adapter_comes_back_with_its_base(server: Server, shelf: Path) -> None:
    load(server, shelf / "merged", name="guest")
    attach(server, "pirate", shelf / "peft-2", model="guest")
    first = text(server, "pirate")
    load(server, "guest", ttl=0)
    until(lambda: server.get("/v1/models/guest").json()["state"] == "available")
    assert server.get("/v1/models/pirate").json()["state"] == "available"
    assert held(server)["adapters"] == 0
    assert text(server, "pirate") == first


def write_bad(folder: Path, how: str, good: Path) -> Path:
    """An adapter that does not fit, or is none."""
    if how == "wider":
        return tiny_adapters.write_peft(folder, RECIPE, Shape(hidden=64, intermediate=128))
    if how == "deeper":
        return tiny_adapters.write_peft(folder, RECIPE, Shape(layers=5))
    if how == "rank":
        return tiny_adapters.write_peft(folder, RECIPE, SHAPE, config={"r": 7})
    if how == "dora":
        return tiny_adapters.write_peft(folder, RECIPE, SHAPE, config={"use_dora": True})
    if how == "half":
        lonely = {"base_model.model.lm_head.lora_A.weight": np.ones((4, 32), np.float32)}
        return tiny_adapters.write_peft(folder, RECIPE, SHAPE, tensors=lonely)
    shutil.copytree(good, folder)
    weights = folder / "adapter_model.safetensors"
    if how == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif how == "pickle":
        weights.rename(folder / "adapter_model.bin")
    elif how == "config":
        (folder / "adapter_config.json").write_text("[]")
    elif how == "model":
        shutil.rmtree(folder)
        shutil.copytree(good.parent / "base", folder)
    return folder


BAD = ["wider", "deeper", "rank", "dora", "half", "truncated", "pickle", "config", "model"]


@pytest.mark.parametrize("how", BAD)
def test_a_bad_adapter_is_refused_and_all_stays_as_it_was(
    server: Server, shelf: Path, how: str
) -> None:
    attach(server, "good", shelf / "peft-2")
    before = held(server), names(server), text(server, "base"), text(server, "good")
    folder = write_bad(shelf / how, how, shelf / "peft")
    try:
        answer = attach(server, "bad", folder)
    finally:
        shutil.rmtree(folder)
    assert error(answer)[:2] == (400, "lora_path"), answer.text
    after = held(server), names(server), text(server, "base"), text(server, "good")
    assert after == before


def test_only_allowed_folders_are_read(server: Server, shelf: Path) -> None:
    for path in (shelf.parent / "outside", f"{shelf}/../outside", "/etc"):
        answer = attach(server, "x", path)
        assert error(answer)[:2] == (400, "lora_path")
        assert "allowed" in answer.json()["error"]["message"]
    assert error(attach(server, "x", shelf / "nowhere"))[:2] == (400, "lora_path")
    assert error(attach(server, "x", "org/none"))[0] == 404
    assert names(server) == ["base"]


def test_names_that_are_taken_or_are_no_adapters(server: Server, shelf: Path) -> None:
    attach(server, "pirate", shelf / "peft")
    for name in ("base", "pirate"):
        assert error(attach(server, name, shelf / "peft")) == (409, "lora_name", "conflict")
    nested = attach(server, "nested", shelf / "peft", model="pirate")
    assert error(nested)[:2] == (400, "model")
    url = "/v1/lora/unload"
    assert error(server.post(url, {"lora_name": "base"}))[:2] == (404, "lora_name")
    assert error(server.post(url, {"lora_name": "nobody"}))[:2] == (404, "lora_name")
    assert error(server.post(url, {"lora_name": "pirate", "model": "pirate"}))[:2] == (400, "model")
    assert names(server) == ["base", "pirate"]
    assert server.post(url, {"lora_name": "pirate", "model": "base"}).status_code == 200


GOOD = {"model": "base", "lora_name": "a", "lora_path": "/x"}
INVALID: list[tuple[dict[str, Any], str]] = [
    ({**GOOD, "lora_name": None}, "lora_name"),
    ({**GOOD, "lora_name": ""}, "lora_name"),
    ({**GOOD, "lora_name": 5}, "lora_name"),
    ({"lora_name": "a"}, "lora_path"),
    ({**GOOD, "lora_path": ""}, "lora_path"),
    ({**GOOD, "lora_path": "a\0b"}, "lora_path"),
    ({**GOOD, "model": ["base"]}, "model"),
    ({"lora_name": "a", "lora_path": "/x", "base_model_name": 5}, "base_model_name"),
    ({**GOOD, "scale": "1"}, "scale"),
    ({**GOOD, "scale": 1e6}, "scale"),
    ({**GOOD, "scale": True}, "scale"),
]


@pytest.mark.parametrize(("body", "param"), INVALID)
def test_bad_fields_are_named(server: Server, body: dict[str, Any], param: str) -> None:
    answer = server.post("/v1/lora/load", body)
    assert error(answer)[:2] == (400, param)
    assert answer.json()["error"]["message"].startswith(f"{param}: ")
