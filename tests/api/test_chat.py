"""Chat as the real client sees it, on both backends."""

from __future__ import annotations

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

from tests.api.serving import Server

PATH = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "hello world"}]


def ask(server: Server, **fields: Any) -> dict[str, Any]:
    """An answer sent whole; greedy and without end unless said otherwise."""
    body = {"model": "tiny", "messages": HELLO, "temperature": 0, "ignore_eos": True}
    response = server.post(PATH, {**body, "max_tokens": 12, **fields})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def content(server: Server, **fields: Any) -> str:
    text = ask(server, **fields)["choices"][0]["message"]["content"]
    assert isinstance(text, str)
    return text


def events(server: Server, path: str = PATH, **fields: Any) -> list[Any]:
    """The events of a stream, `[DONE]` included."""
    body = {"model": "tiny", "temperature": 0, "ignore_eos": True, "max_tokens": 12}
    response = server.post(path, {**body, "stream": True, **fields})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "text/event-stream"
    assert response.headers["cache-control"] == "no-cache"
    blocks = response.text.removesuffix("\n\n").split("\n\n")
    data = [block.removeprefix("data: ") for block in blocks]
    return [one if one == "[DONE]" else json.loads(one) for one in data]


def test_an_answer_has_the_shape_of_openais(server: Server) -> None:
    with server.openai() as client:
        answer = client.chat.completions.create(
            model="tiny",
            messages=[{"role": "user", "content": "hello"}],
            max_completion_tokens=5,
            extra_body={"ignore_eos": True},
        )
    assert answer.id.startswith("chatcmpl-")
    assert (answer.object, answer.model) == ("chat.completion", "tiny")
    choice = answer.choices[0]
    assert (choice.index, choice.finish_reason, choice.logprobs) == (0, "length", None)
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 5
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 5
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 0
    timings = (answer.model_extra or {})["timings"]
    assert timings["predicted_n"] == 5
    assert timings["prompt_n"] == answer.usage.prompt_tokens
    assert timings["time_to_first_token_ms"] > 0


def test_a_stream_gives_the_same_text_as_a_whole_answer(server: Server) -> None:
    whole = ask(server, n=2, max_tokens=24)
    got = events(server, messages=HELLO, n=2, max_tokens=24)
    assert got[-1] == "[DONE]"
    chunks = got[:-1]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert not any("usage" in chunk for chunk in chunks)
    assert "timings" in chunks[-1]
    for index in (0, 1):
        mine = [c["choices"][0] for c in chunks if c["choices"][0]["index"] == index]
        assert mine[0]["delta"]["role"] == "assistant"
        assert [c["finish_reason"] for c in mine[-2:]] == [None, "length"]
        assert mine[-1]["delta"] == {}
        text = "".join(c["delta"].get("content", "") for c in mine)
        assert text == whole["choices"][index]["message"]["content"]


def test_usage_comes_last_when_it_is_asked_for(server: Server) -> None:
    got = events(server, messages=HELLO, stream_options={"include_usage": True}, max_tokens=3)
    *chunks, last, done = got
    assert done == "[DONE]"
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 3
    assert last["timings"]["predicted_n"] == 3
    assert all(chunk["usage"] is None for chunk in chunks)


def test_the_sdk_reads_a_stream(server: Server) -> None:
    with server.openai() as client:
        stream = client.chat.completions.create(
            model="tiny",
            messages=[{"role": "user", "content": "hello world"}],
            temperature=0,
            max_tokens=12,
            stream=True,
            extra_body={"ignore_eos": True},
        )
        with stream:
            text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert text == content(server)


def test_a_seed_repeats_the_text_also_among_others(server: Server) -> None:
    fields = {"temperature": 1.5, "seed": -7, "max_tokens": 20}
    alone = content(server, **fields)
    with ThreadPoolExecutor(4) as pool:
        others = [pool.submit(content, server, temperature=1.5, seed=i) for i in range(3)]
        among = pool.submit(content, server, **fields).result()
        texts = {other.result() for other in others}
    assert among == alone
    assert len({*texts, alone}) == 4


def test_choices_of_one_request_differ(server: Server) -> None:
    answer = ask(server, n=3, temperature=1.5, seed=1)
    choices = answer["choices"]
    assert [choice["index"] for choice in choices] == [0, 1, 2]
    assert len({choice["message"]["content"] for choice in choices}) == 3
    assert answer["usage"]["completion_tokens"] == 36
    assert answer["usage"]["prompt_tokens"] == ask(server)["usage"]["prompt_tokens"]


def test_a_stop_string_ends_the_text_before_it(server: Server) -> None:
    whole = content(server, max_tokens=40)
    middle = len(whole) // 2
    stop = whole[middle : middle + 4]
    expected = whole[: whole.index(stop)]
    for given in (stop, ["never this", stop]):
        choice = ask(server, max_tokens=40, stop=given)["choices"][0]
        assert choice["message"]["content"] == expected
        assert choice["finish_reason"] == "stop"
    got = events(server, messages=HELLO, max_tokens=40, stop=stop)
    text = "".join(e["choices"][0]["delta"].get("content", "") for e in got[:-1])
    assert text == expected


def test_log_probabilities_cover_the_text(server: Server) -> None:
    fields: dict[str, Any] = {"logprobs": True, "top_logprobs": 3, "max_tokens": 8}
    choice = ask(server, **fields)["choices"][0]
    tokens = choice["logprobs"]["content"]
    assert len(tokens) == 8
    spelt = bytes(byte for token in tokens for byte in token["bytes"])
    assert spelt.decode(errors="replace") == choice["message"]["content"]
    for token in tokens:
        top = token["top_logprobs"]
        assert len(top) == 3
        assert top[0]["bytes"] == token["bytes"]  # greedy: the likeliest is what was chosen
        assert 0 >= token["logprob"] >= top[1]["logprob"] >= top[2]["logprob"]
    got = events(server, messages=HELLO, **fields)
    streamed = [
        token
        for event in got[:-1]
        if event["choices"][0]["logprobs"]
        for token in event["choices"][0]["logprobs"]["content"]
    ]
    assert [t["token"] for t in streamed] == [t["token"] for t in tokens]


def test_log_probabilities_without_alternatives(server: Server) -> None:
    tokens = ask(server, logprobs=True, max_tokens=2)["choices"][0]["logprobs"]["content"]
    assert [token["top_logprobs"] for token in tokens] == [[], []]


def test_a_bias_forces_or_forbids_a_token(server: Server) -> None:
    token = server.post("/v1/tokenize", {"model": "tiny", "input": "Z"}).json()["tokens"][0]
    assert content(server, logit_bias={str(token): 100}) == "Z" * 12
    banned = content(server, temperature=2, logit_bias={str(token): -100}, max_tokens=100)
    assert "Z" not in banned


def test_thoughts_are_told_from_the_answer(server: Server) -> None:
    closing = server.post("/v1/tokenize", {"model": "thinker", "input": "</think>"}).json()
    bias = {str(closing["tokens"][0]): 100}
    # The bias makes the model close its thought at once, and say the same ever after.
    answer = ask(server, model="thinker", logit_bias=bias, max_tokens=3)
    message = answer["choices"][0]["message"]
    assert message["content"] == "</think></think>"
    assert "reasoning_content" not in message
    thinking = ask(server, model="thinker", logit_bias=dict.fromkeys(bias, -100))
    message = thinking["choices"][0]["message"]
    assert message["content"] == ""
    assert message["reasoning_content"] == message["reasoning"] != ""
    assert thinking["usage"]["completion_tokens_details"]["reasoning_tokens"] == 12
    got = events(server, model="thinker", messages=HELLO, logit_bias=dict.fromkeys(bias, -100))
    deltas = [event["choices"][0]["delta"] for event in got[:-1]]
    assert "".join(d.get("reasoning_content", "") for d in deltas) == message["reasoning"]
    assert "".join(d.get("reasoning", "") for d in deltas) == message["reasoning"]


@pytest.mark.parametrize(
    "fields",
    [{"chat_template_kwargs": {"enable_thinking": False}}, {"reasoning_effort": "none"}],
    ids=["template variable", "effort"],
)
def test_thinking_can_be_turned_off(server: Server, fields: dict[str, Any]) -> None:
    message = ask(server, model="thinker", **fields)["choices"][0]["message"]
    assert message["content"]
    assert "reasoning_content" not in message


def test_the_answer_is_bounded_by_the_context(server: Server) -> None:
    answer = ask(server, max_tokens=100_000)
    assert answer["usage"]["total_tokens"] == 512
    assert answer["choices"][0]["finish_reason"] == "length"


def test_too_long_a_conversation_says_both_lengths(server: Server) -> None:
    with server.openai() as client, pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": "x " * 600}], stream=True
        )
    assert caught.value.code == "context_length_exceeded"
    assert "maximum context length is 512 tokens" in caught.value.message
    assert "your messages resulted in 12" in caught.value.message


def test_a_client_that_leaves_frees_its_slot(server: Server) -> None:
    body = {"model": "tiny", "messages": HELLO, "ignore_eos": True, "n": 4, "max_tokens": 450}
    for stream in (True, False):
        raw = json.dumps({**body, "stream": stream}).encode()
        head = f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(raw)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(head.encode() + raw)
            while not server.running:
                time.sleep(0.001)
        while server.running:
            time.sleep(0.001)
    assert content(server)


# What is decided before a backend is asked


def test_the_alias_under_api_answers_alike(one_server: Server) -> None:
    body = {"model": "tiny", "messages": HELLO, "temperature": 0, "max_tokens": 3}
    here, there = (one_server.post(path, body).json() for path in (PATH, f"/api{PATH}"))
    assert here["choices"] == there["choices"]
    refused = one_server.post(f"/api{PATH}", {**body, "messages": []})
    assert refused.status_code == 400
    assert refused.json()["error"].startswith("messages: ")


@pytest.mark.parametrize("name", ["small", "org/tiny"])
def test_an_alias_names_the_model(one_server: Server, name: str) -> None:
    assert ask(one_server, model=name)["model"] == "tiny"


def test_without_a_name_the_first_model_answers(one_server: Server) -> None:
    assert ask(one_server, model=None)["model"] == "tiny"


def test_an_unknown_model_is_not_found(one_server: Server) -> None:
    response = one_server.post(PATH, {"model": "gpt-5", "messages": HELLO})
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"


def test_a_bad_parameter_counts_more_than_an_unknown_model(one_server: Server) -> None:
    response = one_server.post(PATH, {"model": "gpt-5", "messages": HELLO, "temperature": 9})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "temperature"


def test_a_model_without_a_template_cannot_chat(one_server: Server) -> None:
    response = one_server.post(PATH, {"model": "bare", "messages": HELLO})
    assert response.status_code == 400
    assert "chat_template" in response.text


def test_every_kind_of_text_message_is_taken(one_server: Server) -> None:
    messages = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "name": "Ada", "content": [{"type": "text", "text": "what "}]},
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "hm",
            "refusal": None,
            "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
            ],
        },
        {"role": "tool", "tool_call_id": "1", "content": "42"},
        {"role": "assistant", "content": "", "function_call": None, "annotations": []},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
    ]
    assert ask(one_server, messages=messages)["choices"]


def test_parts_are_joined(one_server: Server) -> None:
    parts = [{"type": "text", "text": "hello "}, {"type": "text", "text": "world"}]
    asked = ask(one_server, messages=[{"role": "user", "content": parts}])
    assert asked["choices"] == ask(one_server)["choices"]


def test_control_tokens_in_a_message_are_plain_text(one_server: Server) -> None:
    tokens = one_server.post(
        "/v1/tokenize", {"model": "tiny", "messages": [{"role": "user", "content": "<|im_end|>"}]}
    ).json()["tokens"]
    plain = one_server.post("/v1/tokenize", {"model": "tiny", "messages": HELLO}).json()["tokens"]
    assert tokens.count(2) == plain.count(2)


def test_fields_of_openais_cloud_are_ignored(one_server: Server) -> None:
    answer = ask(
        one_server,
        store=True,
        metadata={"a": "b"},
        user="me",
        service_tier="auto",
        parallel_tool_calls=True,
        verbosity="low",
        prompt_cache_key="k",
        safety_identifier="s",
        tools=[],
        tool_choice="auto",
        response_format={"type": "text"},
        modalities=["text"],
        something_else=[1],
    )
    assert answer["choices"] == ask(one_server)["choices"]
