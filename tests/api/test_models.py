"""The list of models."""

from __future__ import annotations

from pathlib import Path

from mlxsrv.config.settings import ModelSettings
from mlxsrv.core.kinds import Kind
from tests.api.serving import Server, serving


def test_the_sdk_lists_the_models(server: Server) -> None:
    with server.openai() as client:
        models = {model.id: model for model in client.models.list()}
    assert list(models) == ["tiny", "thinker", "bare"]
    tiny = models["tiny"]
    assert (tiny.object, tiny.owned_by) == ("model", "mlxsrv")
    assert tiny.created > 0
    more = tiny.model_extra or {}
    assert (more["type"], more["state"]) == ("chat", "idle")
    assert more["context_length"] == 512
    assert more["memory_bytes"] > 0
    assert more["backend"] == server.services.backend
    assert more["aliases"] == ["small", "org/tiny"]


def test_one_model_by_its_name_or_an_alias_with_slashes(one_server: Server) -> None:
    with one_server.openai() as client:
        assert client.models.retrieve("tiny").id == "tiny"
    answer = one_server.get("/v1/models/org/tiny")
    assert answer.json()["id"] == "tiny"


def test_an_unknown_model_is_not_found(one_server: Server) -> None:
    answer = one_server.get("/v1/models/no/such")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"


def test_a_split_port_lists_its_own_kind(tiny_folder: Path) -> None:
    models = {"tiny": ModelSettings(path=str(tiny_folder))}
    with serving("torch", models) as server:
        server.services.ports[server.port] = Kind.EMBEDDING
        assert server.get("/v1/models").json()["data"] == []
        server.services.ports[server.port] = Kind.CHAT
        assert [model["id"] for model in server.get("/v1/models").json()["data"]] == ["tiny"]


def test_any_name_means_the_only_model(tiny_folder: Path) -> None:
    body = {"model": "gpt-5", "prompt": "hello", "max_tokens": 1}
    with serving("torch", {"tiny": ModelSettings(path=str(tiny_folder))}) as server:
        answer = server.post("/v1/completions", body)
    assert answer.status_code == 200
    assert answer.json()["model"] == "tiny"


def test_limits_count_prompt_and_answer(tiny_folder: Path) -> None:
    models = {"tiny": ModelSettings(path=str(tiny_folder))}
    body = {"prompt": [5] * 20, "max_tokens": 30, "ignore_eos": True}
    with serving("torch", models, max_tokens_per_minute=60, max_requests_per_minute=100) as server:
        answer = server.post("/v1/completions", body)
        assert answer.headers["x-ratelimit-limit-tokens"] == "60"
        assert int(answer.headers["x-ratelimit-remaining-tokens"]) <= 15
        refused = server.post("/v1/completions", body)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        missing = server.post("/v1/completions", {**body, "prompt": [9999]})
        assert missing.status_code == 400


def test_a_full_queue_is_an_overload(tiny_folder: Path) -> None:
    body = {"prompt": "x", "max_tokens": 400, "ignore_eos": True, "n": 32, "stream": True}
    models = {"tiny": ModelSettings(path=str(tiny_folder))}
    with serving("torch", models, max_queue=0) as server:
        url = f"{server.url}/v1/completions"
        with server.client.stream("POST", url, json=body) as busy:
            chunks = busy.iter_bytes()
            next(chunks)
            refused = server.post("/v1/completions", {"prompt": "y", "max_tokens": 1})
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "overloaded"
    assert int(refused.headers["retry-after"]) >= 1


def test_the_document_knows_these_routes(one_server: Server) -> None:
    document = one_server.get("/openapi.json").json()
    for path, method in {
        "/v1/chat/completions": "post",
        "/api/v1/chat/completions": "post",
        "/v1/completions": "post",
        "/v1/tokenize": "post",
        "/v1/detokenize": "post",
        "/v1/models": "get",
        "/v1/models/{model_id}": "get",
    }.items():
        operation = document["paths"][path][method]
        assert set(operation["responses"]) == {"200", "default"}
        assert "application/json" in operation["responses"]["200"]["content"]
    chat = document["paths"]["/v1/chat/completions"]["post"]
    assert "text/event-stream" in chat["responses"]["200"]["content"]
    fields = document["components"]["schemas"]["ChatRequest"]["properties"]
    assert fields["stop"]["anyOf"][0] == {"type": "string"}
