from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxsrv.api.body import MAX_DEPTH, parse_object
from mlxsrv.core.errors import InvalidRequest
from tests.api.shell import call, wrapped

JSON = {"Content-Type": "application/json"}
GOOD = b'{"messages": [{"role": "user", "content": "hi"}]}'

BAD = [
    (b"", "The request body is empty: send a JSON object", None),
    (b" \n", "The request body is empty: send a JSON object", None),
    (b'{"messages": [', "The request body is not valid JSON", None),
    (b'{"messages": [],}', "line 1, column 17", None),
    (b"{'messages': []}", "The request body is not valid JSON", None),
    (b'{"messages": "\xff"}', "not valid UTF-8 (at byte 14)", None),
    (b'{"temperature": NaN}', "temperature: NaN is not a finite number", "temperature"),
    (b'{"a": [1, {"b": -Infinity}]}', "a.1.b: -Infinity is not", "a.1.b"),
    (b'{"temperature": 1e999}', "temperature: 1e999 is not", "temperature"),
    (b'{"a": 1, "a": 2}', "a: is given twice", "a"),
    (b'{"a": "\\ud800"}', "half a surrogate pair", None),
    (b'{"\\udc00": 1}', "half a surrogate pair", None),
    (b'{"a": ' + b"9" * 5000 + b"}", "a number that is too long", None),
    (b"[1]", "should be a JSON object, not a list", None),
    (b"null", "should be a JSON object, not null", None),
    (b'"text"', "should be a JSON object, not a string", None),
    (b'{"a":' * 100_000, "nested deeper", None),
    (b'{"a":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}", "nested deeper", None),
    (b'{"a": "\x00"}', "The request body is not valid JSON", None),
]


@pytest.mark.parametrize(("body", "message", "param"), BAD)
def test_bad_json_is_a_400_that_says_where(body: bytes, message: str, param: str | None) -> None:
    answer = call(wrapped(), "POST", "/v1/chat", content=body, headers=JSON)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert message in error["message"]
    assert error["param"] == param


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "application/json; charset=utf-8",
        "application/problem+json",
        "text/plain;charset=UTF-8",
        "application/x-www-form-urlencoded",
        "Application/JSON",
        None,
    ],
)
def test_careless_content_types_are_json(kind: str | None) -> None:
    headers = {"Content-Type": kind} if kind else {}
    answer = call(wrapped(), "POST", "/v1/chat", content=GOOD, headers=headers)
    assert answer.status_code == 200
    assert answer.json()["messages"][0]["content"] == "hi"


@pytest.mark.parametrize("kind", ["application/xml", "multipart/form-data; boundary=x", "nonsense"])
def test_other_content_types_are_415(kind: str) -> None:
    answer = call(wrapped(), "POST", "/v1/chat", content=GOOD, headers={"Content-Type": kind})
    assert answer.status_code == 415
    assert answer.json()["error"]["code"] == "unsupported_media_type"


def test_any_unicode_survives() -> None:
    text = "\U0001f600 é \u2028 \x7f"
    body = {"messages": [{"role": "user", "content": text}]}
    assert call(wrapped(), "POST", "/v1/chat", json=body).json()["messages"][0]["content"] == text
    escaped = json.dumps(body, ensure_ascii=True).encode()
    assert parse_object(escaped)["messages"][0]["content"] == text


def test_depth_just_within_the_limit_passes() -> None:
    nested = b'{"a":' + b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1) + b"}"
    assert "a" in parse_object(nested)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(
    SCALARS.filter(lambda value: value not in (float("inf"), float("-inf"))),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=50)
@given(st.dictionaries(st.text(), VALUES, max_size=4))
def test_every_json_object_parses_to_itself(value: dict[str, object]) -> None:
    try:
        text = json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return
    assert parse_object(text) == value


@given(st.binary(max_size=80))
def test_any_bytes_parse_or_are_refused(body: bytes) -> None:
    with suppress(InvalidRequest):
        assert isinstance(parse_object(body), dict)
