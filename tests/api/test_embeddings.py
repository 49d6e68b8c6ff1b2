"""Embeddings as the real client sees them, on both backends."""

from __future__ import annotations

import base64
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mlxsrv.api.schemas.embeddings import MAX_ROWS
from mlxsrv.config.settings import ModelSettings
from tests.api.conftest import Servers
from tests.api.serving import Server, serving
from tests.api.shell import raw_request
from tests.tiny_encoders import LONGEST, WIDTH

PATH = "/v1/embeddings"
TEXTS = [
    "the cat of the road",
    "[30] [31] [32] [33] [34] [35] [36]",
    "rain",
    "where is the music ?",
]
IDS = [[6, 9, 8, 6, 13], list(range(30, 37)), [15], [21, 1, 6, 17, 22]]


def ask(server: Server, given: Any, **fields: Any) -> NDArray[np.float64]:
    return np.array([item["embedding"] for item in answer(server, given, **fields)["data"]])


def answer(server: Server, given: Any, **fields: Any) -> dict[str, Any]:
    response = server.post(PATH, {"model": "mini", "input": given, **fields})
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def refusal(server: Server, body: dict[str, Any], status: int = 400) -> dict[str, Any]:
    response = server.post(PATH, {"model": "mini", **body})
    assert response.status_code == status, response.text
    error: dict[str, Any] = response.json()["error"]
    return error


def same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return bool(np.allclose(one, other, atol=2e-5))


def test_the_sdk_gets_unit_vectors_in_order_whatever_travels(encoder_server: Server) -> None:
    with encoder_server.openai() as client:
        packed = client.embeddings.create(model="mini", input=TEXTS)
        plain = client.embeddings.create(model="mini", input=TEXTS, encoding_format="float")
        single = [client.embeddings.create(model="mini", input=text) for text in TEXTS]
    assert [item.index for item in packed.data] == list(range(len(TEXTS)))
    vectors = np.array([item.embedding for item in packed.data])
    assert vectors.shape == (len(TEXTS), WIDTH)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert same(vectors, np.array([item.embedding for item in plain.data]))
    assert same(vectors, np.array([one.data[0].embedding for one in single]))
    assert len({tuple(np.round(vector, 3)) for vector in vectors}) == len(TEXTS)
    assert packed.model == "mini"
    assert packed.usage.prompt_tokens == packed.usage.total_tokens
    assert packed.usage.prompt_tokens == sum(one.usage.prompt_tokens for one in single)


def test_both_backends_agree(encoder_servers: Servers) -> None:
    for model in ("mini", "prompted"):
        torch, mlx = (
            ask(encoder_servers.on(backend), TEXTS, model=model, input_type="query")
            for backend in ("torch", "mlx")
        )
        assert (torch * mlx).sum(axis=1).min() > 0.9999


def test_base64_is_little_endian_floats(encoder_server: Server) -> None:
    item = answer(encoder_server, TEXTS[0], encoding_format="base64")["data"][0]
    vector = np.frombuffer(base64.b64decode(item["embedding"]), "<f4")
    assert same(vector, ask(encoder_server, TEXTS[0], encoding_format="float")[0])


def test_token_ids_give_what_their_text_gives(encoder_server: Server) -> None:
    wanted = ask(encoder_server, TEXTS)
    assert same(ask(encoder_server, IDS), wanted)
    assert same(ask(encoder_server, IDS[1]), wanted[1:2])
    assert same(ask(encoder_server, [[2, *IDS[1], 3]]), wanted[1:2])
    with encoder_server.openai() as client:
        packed = client.embeddings.create(model="mini", input=IDS)
    assert same(np.array([item.embedding for item in packed.data]), wanted)


def test_fewer_dimensions_are_the_first_ones_at_length_one(encoder_server: Server) -> None:
    whole = ask(encoder_server, TEXTS)
    for count in (1, 5, WIDTH):
        cut = whole[:, :count] / np.linalg.norm(whole[:, :count], axis=1, keepdims=True)
        assert same(ask(encoder_server, TEXTS, dimensions=count), cut)
    assert ask(encoder_server, TEXTS, model="prompted").shape == (len(TEXTS), 8)
    assert ask(encoder_server, TEXTS, model="prompted", dimensions=16).shape == (len(TEXTS), 16)


def test_the_models_own_prompt_comes_before_a_query(encoder_server: Server) -> None:
    def vector(text: str, **fields: Any) -> NDArray[np.float64]:
        return ask(encoder_server, text, model="prompted", **fields)

    plain = vector("sun")
    assert same(vector("sun", input_type="query"), vector("who what ? sun"))
    assert same(vector("sun", input_type="search_query"), vector("sun", prompt_name="query"))
    assert same(vector("sun", input_type="document"), vector("the book sun"))
    assert not same(vector("sun", input_type="query"), plain)
    usage = answer(encoder_server, "sun", model="prompted", input_type="query")["usage"]
    assert usage == answer(encoder_server, "who what ? sun", model="prompted")["usage"]


def test_a_model_without_prompts_adds_nothing(encoder_server: Server) -> None:
    plain = ask(encoder_server, "sun")
    for input_type in ("query", "document", "search_document"):
        assert same(ask(encoder_server, "sun", input_type=input_type), plain)


def test_what_is_too_long_is_refused_or_cut(encoder_server: Server) -> None:
    long = "fish " * 100
    error = refusal(encoder_server, {"input": ["sun", long]})
    assert error["code"] == "context_length_exceeded"
    assert error["param"] == "input.1"
    assert f"maximum context length is {LONGEST} tokens" in error["message"]
    assert "input.1 resulted in 1" in error["message"]
    cut = answer(encoder_server, ["sun", long], truncate=True)
    assert (
        cut["usage"]["prompt_tokens"]
        == LONGEST + answer(encoder_server, "sun")["usage"]["prompt_tokens"]
    )
    vector = np.array(cut["data"][1]["embedding"])
    assert same(vector, ask(encoder_server, "fish " * (LONGEST - 2))[0])


def test_a_large_request_comes_back_whole_and_in_order(encoder_server: Server) -> None:
    texts = [
        f"[{23 + number % 130}] [{23 + number // 130}]" + " rain" * (number % 40)
        for number in range(1700)
    ]
    vectors = ask(encoder_server, texts)
    assert vectors.shape == (1700, WIDTH)
    for place in (0, 39, 800, 1699):
        assert same(vectors[place], ask(encoder_server, texts[place])[0])


def test_many_clients_each_get_their_own(encoder_server: Server) -> None:
    texts = [f"[{23 + number}]" + " sun" * (number % 13) for number in range(64)]
    wanted = ask(encoder_server, texts)
    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(lambda text: ask(encoder_server, text)[0], texts))
    assert same(np.array(found), wanted)


def test_a_client_that_leaves_stops_the_work(encoder_server: Server) -> None:
    before = computed(encoder_server)
    texts = [f'"[{23 + n % 130}] [{23 + n // 130}]{" car" * 40}"' for n in range(9000)]
    body = b'{"model": "mini", "input": [%b]}' % ",".join(texts).encode()
    with socket.create_connection(("127.0.0.1", encoder_server.port)) as connection:
        connection.sendall(raw_request(encoder_server.port, "POST", PATH, body))
        assert soon(lambda: computed(encoder_server) > before)
    assert soon(lambda: not waiting(encoder_server))
    ask(encoder_server, "sun")
    assert computed(encoder_server) < before + 9000


def soon(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 20
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.002)
    return condition()


def computed(server: Server) -> int:
    """Rows that were computed so far."""
    return sum(meters.rows for meters in server.services.registry.encoder_meters())


def waiting(server: Server) -> int:
    return sum(meters.queue_length for meters in server.services.registry.encoder_meters())


BAD: list[tuple[dict[str, Any], str]] = [
    ({}, "input"),
    ({"input": None}, "input"),
    ({"input": 5}, "input"),
    ({"input": {"text": "a"}}, "input"),
    ({"input": ""}, "input"),
    ({"input": []}, "input"),
    ({"input": [[]]}, "input.0"),
    ({"input": ["a", ""]}, "input.1"),
    ({"input": ["a", 5]}, "input.1"),
    ({"input": ["a", None]}, "input.1"),
    ({"input": ["a", [1]]}, "input.1"),
    ({"input": [[1], "a"]}, "input.1"),
    ({"input": [1, "a"]}, "input.1"),
    ({"input": [1, 2.5]}, "input.1"),
    ({"input": [1, True]}, "input.1"),
    ({"input": [-1]}, "input.0"),
    ({"input": [[1, 2], [3, 2**40]]}, "input.1.1"),
    ({"input": [5, 159, 160]}, "input.2"),
    ({"input": [[5], [5, 6, 99_999]]}, "input.1.2"),
    ({"input": ["a"] * (MAX_ROWS + 1)}, "input"),
    ({"input": "a", "encoding_format": "hex"}, "encoding_format"),
    ({"input": "a", "dimensions": 0}, "dimensions"),
    ({"input": "a", "dimensions": "8"}, "dimensions"),
    ({"input": "a", "dimensions": WIDTH + 1}, "dimensions"),
    ({"input": "a", "truncate": "END"}, "truncate"),
    ({"input": "a", "input_type": "classification"}, "input_type"),
    ({"input": "a", "prompt_name": "query"}, "prompt_name"),
]


@pytest.mark.parametrize(("body", "param"), BAD, ids=range(len(BAD)))
def test_a_bad_field_is_named(one_encoder_server: Server, body: dict[str, Any], param: str) -> None:
    error = refusal(one_encoder_server, body)
    assert error["param"] == param
    assert param in error["message"]


def test_tokens_of_another_vocabulary_are_explained(one_encoder_server: Server) -> None:
    message = refusal(one_encoder_server, {"input": [[15339, 1917]]})["message"]
    assert "own tokenizer" in message
    assert "send the text" in message


def test_fields_that_mean_nothing_here_are_ignored(one_encoder_server: Server) -> None:
    plain = ask(one_encoder_server, "sun")
    assert same(ask(one_encoder_server, "sun", user="me", metadata={}, dimensions=None), plain)


def test_other_models_do_not_embed(one_encoder_server: Server, one_server: Server) -> None:
    error = refusal(one_encoder_server, {"model": "cross", "input": "a"}, 404)
    assert error["code"] == "model_not_found"
    error = refusal(one_encoder_server, {"model": "nobody", "input": "a"}, 404)
    assert error["code"] == "model_not_found"
    error = refusal(one_server, {"model": "tiny", "input": "a"}, 404)
    assert error["param"] == "model"
    assert refusal(one_server, {"model": "x", "input": "a"}, 404)["message"] == (
        "No embedding model loaded"
    )
    response = one_encoder_server.post(PATH, {"input": "a"})
    assert response.json()["model"] == "mini"


def test_tokens_count_against_the_rate_limit(embedding_folder: Path) -> None:
    models = {"mini": ModelSettings(path=str(embedding_folder))}
    with serving("torch", models, max_tokens_per_minute=40) as server:
        first = server.post(PATH, {"input": ["sun"] * 8})
        assert first.headers["x-ratelimit-limit-tokens"] == "40"
        used = first.json()["usage"]["prompt_tokens"]
        assert first.headers["x-ratelimit-remaining-tokens"] == str(40 - used)
        second = server.post(PATH, {"input": ["sun"] * 8})
        assert second.status_code == 429
        assert int(second.headers["retry-after"]) >= 1


def test_the_document_describes_the_route(one_encoder_server: Server) -> None:
    document = one_encoder_server.get("/openapi.json").json()
    operation = document["paths"][PATH]["post"]
    assert operation["operationId"] == "embeddings"
    fields: Sequence[str] = document["components"]["schemas"]["EmbeddingRequest"]["properties"]
    assert {"input", "dimensions", "encoding_format", "input_type", "truncate"} <= set(fields)
