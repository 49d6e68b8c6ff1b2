"""Reranking over HTTP, on both backends."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import Servers
from tests.api.serving import Server
from tests.tiny_encoders import LONGEST

PATH = "/v1/rerank"
QUERY = "where is the cat ?"
DOCUMENTS = [
    "hello world",
    "the lazy dog",
    "the weather in Paris",
    "a quick brown fox jumps",
    "the",
]
MODELS = ["cross", "judge"]


def ask(server: Server, path: str = PATH, **fields: Any) -> dict[str, Any]:
    body = {"model": "cross", "query": QUERY, "documents": DOCUMENTS, **fields}
    response = server.post(path, body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def scores(answer: dict[str, Any]) -> dict[int, float]:
    return {result["index"]: result["relevance_score"] for result in answer["results"]}


def refusal(server: Server, status: int = 400, **fields: Any) -> dict[str, Any]:
    body = {"model": "cross", "query": QUERY, "documents": DOCUMENTS, **fields}
    left_out = {name: value for name, value in body.items() if value is not ...}
    response = server.post(PATH, left_out)
    assert response.status_code == status, response.text
    error: dict[str, Any] = response.json()["error"]
    return error


@pytest.mark.parametrize("model", MODELS)
def test_documents_come_best_first_with_scores_from_0_to_1(
    encoder_server: Server, model: str
) -> None:
    answer = ask(encoder_server, model=model)
    found = [result["relevance_score"] for result in answer["results"]]
    assert found == sorted(found, reverse=True)
    assert all(0 <= score <= 1 for score in found)
    assert sorted(scores(answer)) == list(range(len(DOCUMENTS)))
    assert len({round(score, 4) for score in found}) > 1
    assert answer["id"]
    assert answer["model"] == model
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] > len(DOCUMENTS)


@pytest.mark.parametrize("model", MODELS)
def test_a_score_does_not_depend_on_the_other_documents(encoder_server: Server, model: str) -> None:
    together = scores(ask(encoder_server, model=model))
    for place, document in enumerate(DOCUMENTS):
        alone = scores(ask(encoder_server, model=model, documents=[document]))
        assert alone[0] == pytest.approx(together[place], abs=1e-4)


@pytest.mark.parametrize("model", MODELS)
def test_both_backends_agree(encoder_servers: Servers, model: str) -> None:
    torch, mlx = (scores(ask(encoder_servers.on(name), model=model)) for name in ("torch", "mlx"))
    assert torch == pytest.approx(mlx, abs=1e-4)


@pytest.mark.parametrize("path", ["/rerank", "/v1/reranking", "/v2/rerank"])
def test_the_paths_that_clients_post_to(one_encoder_server: Server, path: str) -> None:
    assert scores(ask(one_encoder_server, path)) == scores(ask(one_encoder_server))


def test_the_best_few_and_their_texts(one_encoder_server: Server) -> None:
    whole = ask(one_encoder_server)["results"]
    best = ask(one_encoder_server, top_n=2, return_documents=True)["results"]
    assert [{**result, "document": {"text": DOCUMENTS[result["index"]]}} for result in whole][
        :2
    ] == best
    assert len(ask(one_encoder_server, top_n=99)["results"]) == len(DOCUMENTS)


def test_documents_and_query_may_be_objects(one_encoder_server: Server) -> None:
    objects = [{"text": document, "title": "unread"} for document in DOCUMENTS]
    answer = ask(one_encoder_server, query={"text": QUERY}, documents=objects)
    assert scores(answer) == scores(ask(one_encoder_server))


def test_equal_documents_stay_in_order(one_encoder_server: Server) -> None:
    answer = ask(one_encoder_server, documents=["same", "same", "same"])
    assert [result["index"] for result in answer["results"]] == [0, 1, 2]


def test_a_long_document_is_cut_unless_it_must_not_be(one_encoder_server: Server) -> None:
    long = "fish " * 300
    answer = ask(one_encoder_server, documents=[long, "fish"])
    assert answer["usage"]["prompt_tokens"] < 2 * LONGEST
    error = refusal(one_encoder_server, documents=["fish", long], truncate=False)
    assert error["code"] == "context_length_exceeded"
    assert error["param"] == "documents.1"
    short = ask(one_encoder_server, documents=[long], max_tokens_per_doc=3)
    assert short["usage"]["prompt_tokens"] < answer["usage"]["prompt_tokens"] - LONGEST // 2
    error = refusal(one_encoder_server, query=long)
    assert error["code"] == "context_length_exceeded"
    assert error["param"] == "query"


def test_an_instruction_is_for_models_that_take_one(one_encoder_server: Server) -> None:
    plain = scores(ask(one_encoder_server, model="judge"))
    told = scores(ask(one_encoder_server, model="judge", instruction="the fish"))
    assert plain != told
    assert refusal(one_encoder_server, instruction="the fish")["param"] == "instruction"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"query": ...}, "query"),
        ({"query": ""}, "query"),
        ({"query": 5}, "query"),
        ({"query": {"title": "a"}}, "query"),
        ({"documents": ...}, "documents"),
        ({"documents": []}, "documents"),
        ({"documents": "a"}, "documents"),
        ({"documents": ["a", 5]}, "documents.1"),
        ({"documents": ["a", {"title": "b"}]}, "documents.1"),
        ({"documents": ["a"] * 10_001}, "documents"),
        ({"top_n": 0}, "top_n"),
        ({"top_n": "2"}, "top_n"),
        ({"return_documents": "yes"}, "return_documents"),
        ({"max_tokens_per_doc": 0}, "max_tokens_per_doc"),
        ({"rank_fields": ["title"]}, "rank_fields"),
    ],
)
def test_a_bad_field_is_named(
    one_encoder_server: Server, fields: dict[str, Any], param: str
) -> None:
    error = refusal(one_encoder_server, **fields)
    assert error["param"] == param
    assert param in error["message"]


def test_fields_of_other_servers_are_ignored(one_encoder_server: Server) -> None:
    answer = ask(one_encoder_server, max_chunks_per_doc=3, rank_fields=["text"], priority=1)
    assert scores(answer) == scores(ask(one_encoder_server))


def test_an_empty_document_is_only_irrelevant(one_encoder_server: Server) -> None:
    assert len(ask(one_encoder_server, documents=["", "sun"])["results"]) == 2


def test_other_models_do_not_rerank(one_encoder_server: Server, one_server: Server) -> None:
    assert refusal(one_encoder_server, 404, model="mini")["code"] == "model_not_found"
    message = refusal(one_server, 404, model="unknown")["message"]
    assert message == "No rerank model loaded"
