"""Tokenizing by itself."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.serving import Server


def tokens(server: Server, **fields: Any) -> dict[str, Any]:
    response = server.post("/v1/tokenize", {"model": "tiny", **fields})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def test_a_text_under_any_of_its_names(one_server: Server) -> None:
    answers = [tokens(one_server, **{name: "hello"}) for name in ("input", "text", "prompt")]
    answers.append(tokens(one_server, content="hello", add_special_tokens=False))
    assert all(answer == answers[0] for answer in answers)
    assert answers[0]["count"] == len(answers[0]["tokens"]) > 0
    assert answers[0]["max_model_len"] == 512


def test_the_strings_of_the_tokens(one_server: Server) -> None:
    answer = tokens(one_server, input="hello wörld", return_token_strings=True)
    assert len(answer["token_strings"]) == answer["count"]
    assert answer["token_strings"][0]
    assert "token_strings" not in tokens(one_server, input="hello")


def test_a_conversation_counts_as_the_chat_route_counts_it(one_server: Server) -> None:
    messages = [{"role": "user", "content": "hello"}]
    chat = {"model": "tiny", "messages": messages, "max_tokens": 1}
    usage = one_server.post("/v1/chat/completions", chat).json()["usage"]
    assert tokens(one_server, messages=messages)["count"] == usage["prompt_tokens"]


@given(text=st.text(max_size=30))
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_text_comes_back(one_server: Server, text: str) -> None:
    ids = tokens(one_server, input=text)["tokens"]
    answer = one_server.post("/v1/detokenize", {"model": "tiny", "tokens": ids})
    assert answer.json() == {"text": text}


@pytest.mark.parametrize(
    ("route", "fields", "param"),
    [
        ("tokenize", {}, "input"),
        ("tokenize", {"input": "a", "text": "b"}, "text"),
        ("tokenize", {"input": 5}, "input"),
        ("tokenize", {"messages": []}, "messages"),
        ("tokenize", {"messages": [{"role": "user"}]}, "messages.0.content"),
        ("tokenize", {"input": "a", "add_special_tokens": "yes"}, "add_special_tokens"),
        ("detokenize", {}, "tokens"),
        ("detokenize", {"tokens": "a"}, "tokens"),
        ("detokenize", {"tokens": [1, "a"]}, "tokens.1"),
        ("detokenize", {"tokens": [1, True]}, "tokens.1"),
        ("detokenize", {"tokens": [-1]}, "tokens.0"),
        ("detokenize", {"tokens": [0, 320]}, "tokens.1"),
    ],
    ids=str,
)
def test_a_wrong_field_is_named(
    one_server: Server, route: str, fields: dict[str, Any], param: str
) -> None:
    answer = one_server.post(f"/v1/{route}", {"model": "tiny", **fields})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_no_tokens_are_no_text(one_server: Server) -> None:
    assert one_server.post("/v1/detokenize", {"tokens": []}).json() == {"text": ""}
