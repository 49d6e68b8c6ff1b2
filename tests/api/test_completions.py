"""Plain completions as the real client sees them, on both backends."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxsrv.api.completionchoices import Choice, best
from mlxsrv.api.logprobs import token_text
from mlxsrv.core.text import TokenLogprob
from tests.api.serving import Server

PATH = "/v1/completions"


def ask(server: Server, **fields: Any) -> dict[str, Any]:
    body = {"model": "tiny", "prompt": "hello", "temperature": 0, "ignore_eos": True}
    response = server.post(PATH, {**body, "max_tokens": 8, **fields})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def refusal(server: Server, **fields: Any) -> dict[str, Any]:
    response = server.post(PATH, {"model": "tiny", "prompt": "hello", "max_tokens": 4, **fields})
    assert response.status_code == 400, response.text
    error: dict[str, Any] = response.json()["error"]
    return error


def streamed(server: Server, **fields: Any) -> list[dict[str, Any]]:
    """The chunks of a stream that ended properly."""
    body = {"model": "tiny", "prompt": "hello", "temperature": 0, "ignore_eos": True}
    response = server.post(PATH, {**body, "max_tokens": 8, "stream": True, **fields})
    assert response.status_code == 200, response.text
    *chunks, done = response.text.removesuffix("\n\n").split("\n\n")
    assert done == "data: [DONE]"
    return [json.loads(chunk.removeprefix("data: ")) for chunk in chunks]


def ids_of(server: Server, text: str) -> list[int]:
    ids: list[int] = server.post("/v1/tokenize", {"model": "tiny", "input": text}).json()["tokens"]
    return ids


def test_the_sdk_reads_an_answer(server: Server) -> None:
    with server.openai() as client:
        answer = client.completions.create(
            model="tiny", prompt="hello", max_tokens=4, extra_body={"ignore_eos": True}
        )
    assert answer.id.startswith("cmpl-")
    assert (answer.object, answer.model) == ("text_completion", "tiny")
    assert answer.choices[0].finish_reason == "length"
    assert answer.choices[0].logprobs is None
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (
        len(ids_of(server, "hello")),
        4,
    )


def test_a_prompt_may_be_text_or_token_ids_or_lists_of_them(server: Server) -> None:
    ids = [ids_of(server, text) for text in ("hello", "what is")]
    one = ask(server)["choices"][0]["text"]
    other = ask(server, prompt="what is")["choices"][0]["text"]
    assert one != other
    assert ask(server, prompt=ids[0])["choices"][0]["text"] == one
    for prompts in (["hello", "what is"], ids):
        answer = ask(server, prompt=prompts, n=2)
        assert [choice["text"] for choice in answer["choices"]] == [one, one, other, other]
        assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
        assert answer["usage"]["prompt_tokens"] == sum(map(len, ids))
        assert answer["usage"]["completion_tokens"] == 32


def test_a_stream_gives_the_same_text_as_a_whole_answer(server: Server) -> None:
    fields: dict[str, Any] = {"prompt": ["hello", "what is"], "echo": True, "max_tokens": 12}
    whole = [choice["text"] for choice in ask(server, **fields)["choices"]]
    chunks = streamed(server, **fields)
    assert {chunk["object"] for chunk in chunks} == {"text_completion"}
    for index, text in enumerate(whole):
        mine = [c["choices"][0] for c in chunks if c["choices"][0]["index"] == index]
        assert "".join(choice["text"] for choice in mine) == text
        assert mine[-1]["finish_reason"] == "length"
    assert "timings" in chunks[-1]


def test_usage_comes_last_when_it_is_asked_for(server: Server) -> None:
    *chunks, last = streamed(server, stream_options={"include_usage": True})
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 8
    assert all(chunk["usage"] is None for chunk in chunks)


def test_offsets_say_where_each_token_stands(server: Server) -> None:
    for echo in (False, True):
        choice = ask(server, logprobs=2, echo=echo)["choices"][0]
        logprobs, text = choice["logprobs"], choice["text"]
        count = 8 + (len(ids_of(server, "hello")) if echo else 0)
        assert all(len(logprobs[key]) == count for key in logprobs)
        for token, offset in zip(logprobs["tokens"], logprobs["text_offset"], strict=True):
            if not token.startswith("bytes:"):
                assert text[offset:].startswith(token) or "\ufffd" in text
        assert all(len(top) <= 2 for top in logprobs["top_logprobs"] if top is not None)


def test_the_echo_is_scored(server: Server) -> None:
    scored = ask(server, prompt="hello world", logprobs=1, echo=True, max_tokens=0)
    choice = scored["choices"][0]
    assert choice["text"] == "hello world"
    assert choice["finish_reason"] == "length"
    assert scored["usage"]["completion_tokens"] == 0
    values = choice["logprobs"]["token_logprobs"]
    assert values[0] is None
    assert choice["logprobs"]["top_logprobs"][0] is None
    assert all(value <= 0 for value in values[1:])
    # What the prompt's tokens are given is what generating them would have given.
    first = ids_of(server, "hello world")
    ahead = ask(server, prompt=first[:-1], logprobs=5, max_tokens=1)["choices"][0]["logprobs"]
    likeliest = max(choice["logprobs"]["top_logprobs"][-1].values())
    assert likeliest == pytest.approx(ahead["token_logprobs"][0], abs=1e-3)


def test_scoring_may_be_streamed(server: Server) -> None:
    chunks = streamed(server, logprobs=1, echo=True, max_tokens=0)
    assert [chunk["choices"][0]["text"] for chunk in chunks] == ["hello", ""]
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"


def test_the_likeliest_of_several_is_returned(server: Server) -> None:
    fields = {"temperature": 1.5, "seed": 5, "max_tokens": 6, "logprobs": 0}
    made = ask(server, n=6, **fields)["choices"]

    def mean(choice: dict[str, Any]) -> float:
        values: list[float] = choice["logprobs"]["token_logprobs"]
        return sum(values) / len(values)

    chosen = ask(server, n=2, best_of=6, **fields)
    expected = sorted(made, key=mean, reverse=True)[:2]
    assert [c["text"] for c in chosen["choices"]] == [c["text"] for c in expected]
    assert [c["index"] for c in chosen["choices"]] == [0, 1]
    assert chosen["usage"]["completion_tokens"] == 36
    assert ask(server, best_of=2, temperature=1)["choices"][0]["logprobs"] is None


def test_a_suffix_asks_for_the_text_between(server: Server) -> None:
    between = ask(server, suffix=" world")
    assert between["choices"][0]["text"] != ask(server)["choices"][0]["text"]
    assert between["usage"]["prompt_tokens"] > len(ids_of(server, "hello")) + 2
    assert ask(server, suffix="")["choices"] == ask(server)["choices"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 3, "best_of": 2}, "best_of"),
        ({"best_of": 2, "stream": True}, "best_of"),
        ({"prompt": [1, 2], "suffix": "x"}, "suffix"),
        ({"suffix": "x", "echo": True, "logprobs": 1}, "suffix"),
        ({"prompt": ["a"] * 200, "n": 20}, "prompt"),
    ],
    ids=str,
)
def test_fields_that_exclude_each_other(
    one_server: Server, fields: dict[str, Any], param: str
) -> None:
    assert refusal(one_server, **fields)["param"] == param


def test_a_prompt_longer_than_the_context_says_both_lengths(one_server: Server) -> None:
    error = refusal(one_server, prompt=[5] * 513)
    assert (error["code"], error["param"]) == ("context_length_exceeded", "prompt")
    assert "maximum context length is 512 tokens" in error["message"]
    assert "your prompt resulted in 513 tokens" in error["message"]
    assert refusal(one_server, prompt=[5] * 512)["code"] == "context_length_exceeded"
    scored = one_server.post(
        PATH, {"model": "tiny", "prompt": [5] * 512, "max_tokens": 0, "echo": True}
    )
    assert scored.status_code == 200


def test_a_long_prompt_is_tokenized_beside_the_event_loop(one_server: Server) -> None:
    error = refusal(one_server, prompt="hello world " * 4000)
    assert error["code"] == "context_length_exceeded"


def test_a_model_without_a_template_completes(server: Server) -> None:
    assert ask(server, model="bare")["choices"][0]["text"]


@given(st.lists(st.lists(st.floats(-50, 0), max_size=4), min_size=6, max_size=6), st.integers(1, 3))
def test_best_keeps_the_order_of_prompts(values: list[list[float]], wanted: int) -> None:
    made = [Choice(tokens=[TokenLogprob(0, value) for value in one]) for one in values]
    for prompt in (0, 1):
        group = made[prompt * 3 : prompt * 3 + 3]
        chosen = best(made, 3, wanted)[prompt * wanted : (prompt + 1) * wanted]
        assert all(any(one is other for other in group) for one in chosen)
        left_out = [one for one in group if not any(one is other for other in chosen)]
        means = [one.mean_logprob for one in chosen]
        assert means == sorted(means, reverse=True)
        assert all(one.mean_logprob <= means[-1] for one in left_out)


@given(st.binary(max_size=6), st.binary(max_size=6))
def test_token_texts_keep_tokens_apart(one: bytes, other: bytes) -> None:
    if one != other and not (one.startswith(b"bytes:") or other.startswith(b"bytes:")):
        assert token_text(one) != token_text(other)
