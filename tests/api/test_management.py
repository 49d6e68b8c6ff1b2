"""Models that come and go while the server runs."""

from __future__ import annotations

import json
import re
import shutil
import socket
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import NotFoundError
from pydantic import ByteSize

from mlxsrv.config.settings import HubSettings, MemorySettings, ModelSettings
from tests import tiny_models
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
from tests.checkpoints import model_files
from tests.tiny_models import Shape

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that requests may load from: two models there, and one beside it."""
    shelf = tmp_path_factory.mktemp("shelf") / "models"
    tiny_models.build(shelf / "other", seed=5, shape=Shape(context=4096))
    tiny_models.build(shelf / "bare", "llama", seed=6, chat_template=None)
    tiny_models.build(shelf.parent / "outside", seed=7)
    return shelf


@pytest.fixture(scope="module", params=["mlx", "torch"])
def managed(request: pytest.FixtureRequest, shelf: Path, tiny_folder: Path) -> Iterator[Server]:
    models = {"tiny": ModelSettings(path=str(tiny_folder), aliases=("small",))}
    with serving(request.param, models, hub=HubSettings(allowed_folders=(shelf,))) as server:
        yield server


@pytest.fixture
def server(managed: Server) -> Iterator[Server]:
    """Afterwards only `tiny` is left."""
    yield managed
    for name in names(managed):
        if name != "tiny":
            assert unload(managed, name).status_code == 200


def events(answer: httpx.Response) -> list[dict[str, Any]]:
    """The events of a stream that ended well."""
    *lines, last = [line for line in answer.text.splitlines() if line.startswith("data: ")]
    assert last == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def test_a_model_comes_is_used_and_goes(server: Server, shelf: Path) -> None:
    before = held(server)["weights"]
    loaded = load(server, shelf / "other", name="org/guest", ttl=3600, pin=True)
    assert loaded.status_code == 200, loaded.text
    guest = loaded.json()
    assert list(guest)[:4] == ["id", "object", "created", "owned_by"]
    expected = {"id": "org/guest", "object": "model", "type": "chat", "context_length": 4096}
    assert_has(guest, {**expected, "ttl": 3600, "pin": True, "requests": 0, "state": "idle"})
    assert guest["backend"] == server.services.backend
    with server.openai() as client:
        assert [model.id for model in client.models.list()] == ["tiny", "org/guest"]
        assert client.models.retrieve("org/guest").id == "org/guest"
        assert text(server, "org/guest") != text(server, "tiny")
        assert held(server)["weights"] == before + guest["memory_bytes"]
        gone = client.models.delete("org/guest")
        assert (gone.id, gone.object, gone.deleted) == ("org/guest", "model", True)
        assert (gone.model_extra or {})["memory_bytes"] == guest["memory_bytes"]
        with pytest.raises(NotFoundError):
            client.models.retrieve("org/guest")
        with pytest.raises(NotFoundError):
            client.models.delete("org/guest")
    assert names(server) == ["tiny"]
    assert held(server)["weights"] == before


def test_a_folders_own_name_serves_where_none_is_given(server: Server, shelf: Path) -> None:
    assert load(server, shelf / "bare").json()["id"] == "bare"
    assert server.get("/v1/models/bare").json()["type"] == "completion"


def test_loading_what_is_loaded_only_sets_how_long_it_stays(server: Server, shelf: Path) -> None:
    load(server, shelf / "other", name="guest")
    before = held(server)["weights"]
    for again in ("guest", shelf / "other"):
        fields = {"name": "guest"} if again != "guest" else {}
        answer = load(server, again, ttl=50, pin=True, **fields)
        assert_has(answer.json(), {"id": "guest", "ttl": 50, "pin": True})
    answer = load(server, "guest", pin=False)
    assert_has(answer.json(), {"ttl": 50, "pin": False})
    assert load(server, "small").json()["id"] == "tiny"
    assert held(server)["weights"] == before
    assert names(server) == ["tiny", "guest"]


def test_what_was_unloaded_loads_again(server: Server, shelf: Path) -> None:
    load(server, shelf / "other")
    first = text(server, "other")
    assert unload(server, "other").json()["id"] == "other"
    assert error(unload(server, "other")) == (404, "model", "model_not_found")
    load(server, shelf / "other")
    assert text(server, "other") == first


def test_a_load_as_a_stream(server: Server, shelf: Path) -> None:
    answer = load(server, shelf / "other", stream=True)
    assert answer.headers["content-type"] == "text/event-stream"
    *progress, model = events(answer)
    assert model["id"] == "other"
    assert set(model) == set(server.get("/v1/models/other").json())
    assert progress
    for event in progress:
        assert event["object"] == "model.load.progress"
        assert event["model"] == str(shelf / "other")
        assert event["stage"] in {"waiting", "load"}
        assert event["total"] is None or 0 <= event["done"] <= event["total"]
    assert progress[-1]["progress"] == 1
    assert [event["id"] for event in events(load(server, "other", stream=True))] == ["other"]


@pytest.mark.parametrize("stream", [False, True])
def test_many_who_want_the_same_model_share_one_load(
    server: Server, shelf: Path, stream: bool
) -> None:
    before = held(server)["weights"]
    with ThreadPoolExecutor(8) as pool:
        loads = [pool.submit(load, server, shelf / "other", stream=stream) for _ in range(8)]
        answers = [one.result() for one in loads]
    assert [answer.status_code for answer in answers] == [200] * 8
    models = [events(answer)[-1] if stream else answer.json() for answer in answers]
    assert {model["id"] for model in models} == {"other"}
    assert names(server) == ["tiny", "other"]
    assert held(server)["weights"] == before + models[0]["memory_bytes"]


def test_a_client_that_leaves_does_not_stop_the_load(server: Server, shelf: Path) -> None:
    body = json.dumps({"model": str(shelf / "other"), "stream": True}).encode()
    head = f"POST /v1/models/load HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(head.replace("Host: x", f"Host: 127.0.0.1:{server.port}").encode() + body)
        until(lambda: "other" in names(server))
    until(lambda: server.get("/v1/models/other").json()["state"] == "idle")


def test_unloading_waits_for_a_running_stream(server: Server, shelf: Path) -> None:
    load(server, shelf / "other")
    busy: Future[None] = Future()
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(long_stream, server, "other", 400, busy)
        busy.result(30)
        assert server.get("/v1/models/other").json()["requests"] == 1
        answer = pool.submit(unload, server, "other")
        assert answer.result().status_code == 200
        # The lease ends with the stream, so what is left to read is in the socket already.
        lines = running.result()
    assert_whole(lines)
    assert names(server) == ["tiny"]


def test_unloading_with_a_timeout_ends_what_still_runs(server: Server, shelf: Path) -> None:
    load(server, shelf / "other")
    busy: Future[None] = Future()
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(long_stream, server, "other", 4000, busy)
        busy.result(30)
        assert unload(server, "other", timeout=0.1).status_code == 200
        last = json.loads(running.result()[-1].removeprefix("data: "))
    assert last["error"]["message"]
    assert names(server) == ["tiny"]
    assert text(server, "tiny")


def test_a_client_that_leaves_does_not_stop_an_unload(server: Server, shelf: Path) -> None:
    before = held(server)["weights"]
    load(server, shelf / "other")
    busy: Future[None] = Future()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(long_stream, server, "other", 400, busy)
        busy.result(30)
        with pytest.raises(httpx.ReadTimeout):
            server.post("/v1/models/unload", {"model": "other"}, timeout=0.05)
        assert_whole(running.result())
    until(lambda: held(server)["weights"] == before)
    assert load(server, shelf / "other").status_code == 200


def test_a_name_that_is_taken_is_a_conflict(server: Server, shelf: Path) -> None:
    for name in ("tiny", "small"):
        assert error(load(server, shelf / "other", name=name)) == (409, "name", "conflict")
    assert names(server) == ["tiny"]


def test_only_allowed_folders_are_read(server: Server, shelf: Path, tmp_path: Path) -> None:
    outside = shelf.parent / "outside"
    link = shelf / "link"
    link.symlink_to(outside)
    try:
        for model in (outside, f"{shelf}/../outside", link, "/etc", "/"):
            answer = load(server, model)
            assert error(answer)[:2] == (400, "model"), answer.text
            assert "allowed" in answer.json()["error"]["message"]
        # What stands outside is not even told apart from what does not exist.
        nowhere = load(server, tmp_path / "nowhere").json()["error"]["message"]
        there = load(server, tmp_path).json()["error"]["message"]
        assert nowhere.replace(str(tmp_path / "nowhere"), "X") == there.replace(str(tmp_path), "X")
    finally:
        link.unlink()
    assert names(server) == ["tiny"]


def test_a_hub_id_is_not_downloaded_unless_that_is_allowed(server: Server) -> None:
    assert error(load(server, "org/none"))[:2] == (404, "model")
    assert error(load(server, "nothing"))[:2] == (400, "model")
    assert error(load(server, "org/none", stream=True))[:2] == (404, "model")


def broken(folder: Path, how: str, good: Path) -> Path:
    """A checkpoint as a bad download, or a bad person, leaves it."""
    folder.mkdir()
    if how == "empty":
        return folder
    shutil.copytree(good, folder, dirs_exist_ok=True)
    weights = folder / "model.safetensors"
    raw = weights.read_bytes()
    if how == "truncated":
        weights.write_bytes(raw[: len(raw) // 2])
    elif how == "corrupt":
        weights.write_bytes(b"\xff" * 100 + raw[100:])
    elif how in {"pickle", "gguf"}:
        weights.unlink()
        name = {"pickle": "pytorch_model.bin", "gguf": "model.gguf"}[how]
        (folder / name).write_bytes(b"\x80\x04boom")
    elif how == "code":
        config = json.loads((folder / "config.json").read_text())
        config["model_type"] = "evil"
        config["auto_map"] = {"AutoModelForCausalLM": "evil.Evil"}
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "evil.py").write_text("raise SystemExit")
    elif how == "config":
        (folder / "config.json").write_text("{")
    elif how == "shapes":
        (folder / "model.safetensors").write_bytes(model_files()["model.safetensors"])
    elif how == "architecture":
        (folder / "config.json").write_text(
            json.dumps({"model_type": "unheard", "architectures": ["UnheardForCausalLM"]})
        )
    return folder


BROKEN = [
    "empty", "truncated", "corrupt", "pickle", "gguf", "code", "config", "shapes", "architecture",
]  # fmt: skip


@pytest.mark.parametrize("how", BROKEN)
def test_a_bad_checkpoint_is_refused_and_what_was_there_serves_on(
    server: Server, shelf: Path, how: str
) -> None:
    folder = broken(shelf / how, how, shelf / "other")
    before = text(server, "tiny")
    weights = held(server)["weights"]
    try:
        for fields in ({}, {"stream": True}):
            answer = load(server, folder, **fields)
            assert error(answer)[:2] == (400, "model"), answer.text
            message = answer.json()["error"]["message"]
            assert "Traceback" not in message
    finally:
        shutil.rmtree(folder)
    assert names(server) == ["tiny"]
    assert held(server)["weights"] == weights
    assert text(server, "tiny") == before


def test_a_kind_that_the_checkpoint_can_not_be(server: Server, shelf: Path) -> None:
    answer = load(server, shelf / "other", kind="stt")
    assert answer.status_code == 400, answer.text
    assert names(server) == ["tiny"]


INVALID: list[tuple[dict[str, Any], str]] = [
    ({}, "model"),
    ({"model": None}, "model"),
    ({"model": 5}, "model"),
    ({"model": ""}, "model"),
    ({"model": " \t"}, "model"),
    ({"model": "a\0b"}, "model"),
    ({"model": "x" * 5000}, "model"),
    ({"model": "tiny", "name": ""}, "name"),
    ({"model": "tiny", "name": " a"}, "name"),
    ({"model": "tiny", "name": "a\u202eb"}, "name"),
    ({"model": "tiny", "name": "x" * 300}, "name"),
    ({"model": "tiny", "name": ["a"]}, "name"),
    ({"model": "tiny", "kind": "llm"}, "kind"),
    ({"model": "tiny", "ttl": -1}, "ttl"),
    ({"model": "tiny", "ttl": "5"}, "ttl"),
    ({"model": "tiny", "ttl": 1e12}, "ttl"),
    ({"model": "tiny", "pin": "yes"}, "pin"),
    ({"model": "tiny", "pin": 1}, "pin"),
    ({"model": "tiny", "stream": "no"}, "stream"),
]


@pytest.mark.parametrize(("body", "param"), INVALID)
def test_bad_fields_are_named(one_managed: Server, body: dict[str, Any], param: str) -> None:
    answer = one_managed.post("/v1/models/load", body)
    assert error(answer)[:2] == (400, param)
    assert answer.json()["error"]["message"].startswith(f"{param}: ")


@pytest.mark.parametrize(
    ("body", "param"),
    [({}, "model"), ({"model": ""}, "model"), ({"model": "tiny", "timeout": -1}, "timeout")],
)
def test_bad_fields_of_an_unload(one_managed: Server, body: dict[str, Any], param: str) -> None:
    assert error(one_managed.post("/v1/models/unload", body))[:2] == (400, param)


def test_unknown_fields_are_ignored(one_managed: Server) -> None:
    answer = load(one_managed, "tiny", context_length=5, flash_attention=True)
    assert answer.json()["context_length"] == 512


def test_other_methods_of_the_commands_are_not_models(one_managed: Server) -> None:
    for path in ("/v1/models/load", "/v1/models/unload"):
        for method in ("GET", "DELETE", "PUT"):
            answer = one_managed.client.request(method, one_managed.url + path)
            assert answer.status_code == 405
            assert answer.headers["allow"] == "POST"


def test_deleting_what_is_not_there(one_managed: Server) -> None:
    for path in ("nobody", "org/nobody", "gpt-4o"):
        answer = one_managed.client.delete(f"{one_managed.url}/v1/models/{path}")
        assert error(answer) == (404, "model", "model_not_found")


def test_these_routes_count_as_requests(tiny_folder: Path) -> None:
    models = {"tiny": ModelSettings(path=str(tiny_folder))}
    with serving("torch", models, max_requests_per_minute=2) as server:
        assert load(server, "tiny").headers["x-ratelimit-remaining-requests"] == "1"
        assert load(server, "tiny").status_code == 200
        assert unload(server, "tiny").status_code == 429
        assert server.client.delete(f"{server.url}/v1/models/tiny").status_code == 429
        assert [model.name for model in server.services.registry.list()] == ["tiny"]


def test_memory_is_told(one_managed: Server) -> None:
    memory = one_managed.get("/v1/models").json()["memory"]
    tiny = one_managed.get("/v1/models/tiny").json()
    assert memory["held"]["weights"] == tiny["memory_bytes"] > 100_000
    assert memory["budget_bytes"] > sum(memory["held"].values())


def test_a_model_that_is_too_large_is_refused_with_the_numbers(
    tiny_folder: Path, tmp_path: Path
) -> None:
    tiny_models.build(tmp_path / "large", shape=Shape(hidden=256, intermediate=1024))
    hub = HubSettings(allowed_folders=(tmp_path,))
    memory = MemorySettings(budget_bytes=ByteSize(8_000_000))
    models = {"tiny": ModelSettings(path=str(tiny_folder))}
    with serving("torch", models, hub=hub, memory=memory) as server:
        for fields in ({}, {"stream": True}):
            answer = load(server, tmp_path / "large", **fields)
            assert error(answer) == (400, "model", "too_large_for_memory")
            assert len(re.findall(r"\d MB", answer.json()["error"]["message"])) == 2
        assert names(server) == ["tiny"]
        assert server.get("/v1/models").json()["memory"]["budget_bytes"] == 8_000_000
        assert text(server, "tiny")


def test_the_document_knows_these_routes(one_managed: Server) -> None:
    paths = one_managed.get("/openapi.json").json()["paths"]
    for path, method in {
        "/v1/models/load": "post",
        "/v1/models/unload": "post",
        "/v1/models/{model_id}": "delete",
    }.items():
        assert set(paths[path][method]["responses"]) == {"200", "default"}
    assert set(paths["/v1/models/load"]) == {"post"}
    load_ = paths["/v1/models/load"]["post"]
    assert "text/event-stream" in load_["responses"]["200"]["content"]


@pytest.fixture(scope="module")
def one_managed(tiny_folder: Path) -> Iterator[Server]:
    """For what happens before a backend is asked."""
    models = {"tiny": ModelSettings(path=str(tiny_folder))}
    with serving("torch", models) as server:
        yield server
