"""Every parameter of the text routes with a wrong type, a wrong range and hostile values."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from transformers import PreTrainedTokenizerBase

from mlxsrv.api.schemas.chat import TEMPLATE_ARGUMENTS, ChatRequest
from mlxsrv.api.schemas.completions import CompletionRequest
from mlxsrv.api.schemas.tokens import DetokenizeRequest, TokenizeRequest
from mlxsrv.core.errors import InvalidRequest
from tests.api.serving import Server

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
MESSAGES = [{"role": "user", "content": "hello"}]

WORDS = ["x", "", "12"]
NO_NUMBER: list[Any] = [*WORDS, True, [], {}]
NO_INTEGER = [*NO_NUMBER, 1.5, 1.0]
NO_FLAG: list[Any] = ["true", 1, 0, [], {}]
NO_TEXT: list[Any] = [5, True, [], {}]

SHARED: dict[str, list[Any]] = {
    "model": NO_TEXT,
    "temperature": [*NO_NUMBER, -0.1, 2.1, 10**400],
    "top_p": [*NO_NUMBER, 0, -1, 1.01],
    "top_k": [*NO_INTEGER, -2],
    "min_p": [*NO_NUMBER, -0.1, 1.1],
    "repetition_penalty": [*NO_NUMBER, 0, -1, 10.5],
    "frequency_penalty": [*NO_NUMBER, -2.1, 2.1],
    "presence_penalty": [*NO_NUMBER, -2.1, 2.1],
    "seed": [*NO_INTEGER, 2**64, -(2**63) - 1],
    "n": [*NO_INTEGER, 0, -1, 129, 10**30],
    "max_tokens": [*NO_INTEGER, -1],
    "max_completion_tokens": [*NO_INTEGER, 0, -1],
    "stream": NO_FLAG,
    "ignore_eos": NO_FLAG,
    "stop": [5, True, {}, "", [""], [5], [None], ["x"] * 17, "x" * 2000],
    "logit_bias": [
        "x", 5, [], {"x": 1}, {"-1": 1}, {"1.0": 1}, {"1": "x"}, {"1": 101}, {"1": None},
        {"320": 1}, {"4294967296": 1}, {"99999999999999999999": 1}, {"١": 1},
    ],
    "stream_options": ["x", 5, [], {}, {"include_usage": True}],
    "response_format": ["json", 5, {}, {"type": 5}, {"type": "json_object"}],
    "regex": ["a*"],
    "grammar": ["start: x"],
    "choice": [["a", "b"]],
}  # fmt: skip

CHAT_ONLY: dict[str, list[Any]] = {
    "messages": [None, "x", 5, {}, []],
    "max_tokens": [0],
    "logprobs": [*NO_FLAG, 5],
    "top_logprobs": [*NO_INTEGER, -1, 21, 2],  # 2 is fine but for the missing `logprobs`
    "reasoning_effort": ["extreme", 5, True, {}],
    "chat_template_kwargs": ["x", 5, [], {"tokenize": False}, {"chat_template": "{{ 1 }}"}],
    "tools": ["x", 5, {}, [{"type": "function", "function": {"name": "f"}}]],
    "functions": ["x", [{"name": "f"}]],
    "tool_choice": [5, "required", {"type": "function", "function": {"name": "f"}}],
    "function_call": [5, {"name": "f"}],
    "modalities": ["text", 5, ["video"], ["text", "audio"]],
    "audio": [{"voice": "alloy", "format": "wav"}],
    "prediction": [{"type": "content", "content": "x"}],
    "web_search_options": [{}],
}

COMPLETIONS_ONLY: dict[str, list[Any]] = {
    "prompt": [
        None, 5, True, {}, [], [[]], ["a", 5], [1, "a"], [1, True], [-1], [1.5], [[1], 5],
        [[1], ["a"]], [320], [[1], [320]], [2**40], [None], "",
    ],
    "max_tokens": [0],
    "logprobs": [*NO_INTEGER, -1, 6],
    "echo": NO_FLAG,
    "suffix": NO_TEXT,
    "best_of": [*NO_INTEGER, 0, 129],
}  # fmt: skip

PATHS = {  # where the field's path says more than its name
    ("stop", "['']"): "stop.0",
    ("stop", "[5]"): "stop.0",
    ("stop", "[None]"): "stop.0",
    ("response_format", "{}"): "response_format.type",
    ("response_format", "{'type': 5}"): "response_format.type",
    ("modalities", "['video']"): "modalities.0",
    ("chat_template_kwargs", "{'tokenize': False}"): "chat_template_kwargs.tokenize",
    ("chat_template_kwargs", "{'chat_template': '{{ 1 }}'}"): "chat_template_kwargs.chat_template",
    ("prompt", "[[]]"): "prompt.0",
    ("prompt", "['a', 5]"): "prompt.1",
    ("prompt", "[1, 'a']"): "prompt.1",
    ("prompt", "[1, True]"): "prompt.1",
    ("prompt", "[-1]"): "prompt.0",
    ("prompt", "[1.5]"): "prompt.0",
    ("prompt", "[[1], 5]"): "prompt.1",
    ("prompt", "[[1], ['a']]"): "prompt.1.0",
    ("prompt", "[320]"): "prompt.0",
    ("prompt", "[[1], [320]]"): "prompt.1.0",
    ("prompt", f"[{2**40}]"): "prompt.0",
    ("prompt", "[None]"): "prompt.0",
}


def cases() -> Iterator[Any]:
    for route, own in ((CHAT, CHAT_ONLY), (COMPLETIONS, COMPLETIONS_ONLY)):
        for fields in (SHARED, own):
            for field, values in fields.items():
                for value in values:
                    shown = repr(value)
                    path = PATHS.get((field, shown), field)
                    name = f"{route.split('/')[2]}-{field}-{shown[:24]}"
                    yield pytest.param(route, field, value, path, id=name)


def body_for(route: str) -> dict[str, Any]:
    prompt = {"messages": MESSAGES} if route == CHAT else {"prompt": "hello"}
    return {"model": "tiny", "max_tokens": 1, **prompt}


@pytest.mark.slow
@pytest.mark.parametrize(("route", "field", "value", "path"), list(cases()))
def test_a_wrong_value_is_refused_by_its_path(
    one_server: Server, route: str, field: str, value: Any, path: str
) -> None:
    response = one_server.post(route, {**body_for(route), field: value})
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error["param"] == path
    assert path in error["message"]
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize("route", [CHAT, COMPLETIONS])
def test_null_means_left_out(one_server: Server, route: str) -> None:
    fields = {**SHARED, **(CHAT_ONLY if route == CHAT else COMPLETIONS_ONLY)}
    nulls = {field: None for field in fields if field not in {"messages", "prompt", "max_tokens"}}
    response = one_server.post(route, {**body_for(route), **nulls, "model": "tiny"})
    assert response.status_code == 200, response.text


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 0},
        {"temperature": 2},
        {"temperature": 1e-300},
        {"top_p": 1e-300},
        {"top_p": 1},
        {"top_k": -1},
        {"top_k": 0},
        {"top_k": 10**30},
        {"min_p": 1},
        {"repetition_penalty": 1e-300},
        {"repetition_penalty": 10},
        {"frequency_penalty": -2, "presence_penalty": 2},
        {"seed": -(2**63)},
        {"seed": 2**64 - 1},
        {"n": 5, "seed": 3},
        {"stop": []},
        {"stop": ["x"] * 16},
        {"logit_bias": {}},
        {"logit_bias": {"0": -100, "319": 100}},
        {"logit_bias": {str(i): -100 for i in range(320)}},
        {"max_completion_tokens": 2, "max_tokens": 1},
        {"max_completion_tokens": 10**30, "n": 1},
        {"stream": False, "stream_options": None},
    ],
    ids=lambda fields: str(fields)[:40],
)
@pytest.mark.parametrize("route", [CHAT, COMPLETIONS])
def test_the_bounds_themselves_are_served(
    server: Server, route: str, fields: dict[str, Any]
) -> None:
    response = server.post(route, {**body_for(route), **fields})
    assert response.status_code == 200, response.text
    wanted = min(fields.get("max_completion_tokens", 1), 512)
    assert response.json()["usage"]["completion_tokens"] <= wanted * fields.get("n", 1)


@pytest.mark.parametrize(
    ("message", "path"),
    [
        ("hello", ""),
        ({}, ".role"),
        ({"content": "x"}, ".role"),
        ({"role": "wizard", "content": "x"}, ".role"),
        ({"role": 5, "content": "x"}, ".role"),
        ({"role": "user"}, ".content"),
        ({"role": "user", "content": None}, ".content"),
        ({"role": "assistant", "content": None}, ".content"),
        ({"role": "user", "content": 5}, ".content"),
        ({"role": "user", "content": {}}, ".content"),
        ({"role": "user", "content": []}, ".content"),
        ({"role": "user", "content": ["x"]}, ".content.0"),
        ({"role": "user", "content": [{}]}, ".content.0.type"),
        ({"role": "user", "content": [{"type": "text"}]}, ".content.0.text"),
        ({"role": "user", "content": [{"type": "text", "text": 5}]}, ".content.0.text"),
        ({"role": "user", "content": [{"type": "smell", "text": "x"}]}, ".content.0.type"),
        ({"role": "user", "content": "x", "name": 5}, ".name"),
        ({"role": "tool", "content": "x", "tool_call_id": 5}, ".tool_call_id"),
        ({"role": "assistant", "content": "x", "tool_calls": "f"}, ".tool_calls"),
        ({"role": "assistant", "content": "x", "tool_calls": [{}]}, ".tool_calls.0.function"),
    ],
    ids=str,
)
def test_a_broken_message_is_named(one_server: Server, message: Any, path: str) -> None:
    response = one_server.post(CHAT, {"model": "tiny", "messages": [*MESSAGES, message]})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == f"messages.1{path}"


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}},
        {"type": "file", "file": {"file_id": "x"}},
    ],
    ids=lambda part: str(part["type"]),
)
def test_media_are_refused_by_name(one_server: Server, part: dict[str, Any]) -> None:
    content = [{"type": "text", "text": "what is this?"}, part]
    messages = [{"role": "user", "content": content}]
    response = one_server.post(CHAT, {"model": "tiny", "messages": messages})
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["param"], error["code"]) == ("messages.0.content.1", "unsupported_parameter")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none_are_refused(one_server: Server, number: str) -> None:
    body = json.dumps(body_for(CHAT))[:-1] + f', "temperature": {number}}}'
    headers = {"content-type": "application/json"}
    response = one_server.post(CHAT, None, content=body, headers=headers)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "temperature"


def test_a_hostile_template_variable_is_the_callers_fault(one_server: Server) -> None:
    fields = {"chat_template_kwargs": {"raise_exception": 1, "enable_thinking": {"a": []}}}
    response = one_server.post(CHAT, {**body_for(CHAT), **fields})
    assert response.status_code in {200, 400}


def test_a_huge_list_of_errors_is_reported_once(one_server: Server) -> None:
    for field, value in {"messages": [5] * 200_000, "stop": [5] * 200_000}.items():
        response = one_server.post(CHAT, {**body_for(CHAT), field: value})
        assert response.status_code == 400
        assert len(response.text) < 1000


def test_every_argument_of_the_tokenizers_template_call_is_reserved() -> None:
    arguments = inspect.signature(PreTrainedTokenizerBase.apply_chat_template).parameters
    assert set(arguments) <= TEMPLATE_ARGUMENTS


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FIELDS = sorted({*SHARED, *CHAT_ONLY, *COMPLETIONS_ONLY, "input", "tokens", "content"})


def complaint(schema: type[BaseModel], body: dict[str, Any]) -> str | None:
    """What is wrong with `body`; any other exception would be a 500."""
    try:
        schema.model_validate(body)
    except (InvalidRequest, ValidationError) as error:
        return str(error)
    return None


@given(st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=4))
def test_whatever_is_sent_is_taken_or_refused(body: dict[str, Any]) -> None:
    bases: list[dict[str, Any]] = [{}, {"messages": MESSAGES}, {"prompt": "x"}]
    for schema in (ChatRequest, CompletionRequest, TokenizeRequest, DetokenizeRequest):
        for base in bases:
            assert complaint(schema, {**base, **body}) != ""
