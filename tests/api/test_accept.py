from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxsrv.api.accept import prefers_json


@pytest.mark.parametrize(
    ("header", "json"),
    [
        ("", False),
        ("*/*", False),
        ("image/png", False),
        ("image/*", False),
        ("text/html,application/xhtml+xml,*/*;q=0.8", False),
        ("application/json", True),
        ("Application/JSON; charset=utf-8", True),
        ("application/json, text/plain, */*", True),
        ("application/json;q=0.5, */*;q=0.9", False),
        ("application/json;q=0.5, */*;q=0.1", True),
        ("application/json, image/png", False),
        ("application/json, image/png;q=0.9", True),
        ("application/json;q=0.8, image/png;q=0.9", False),
        ("application/json;q=0", False),
        ("application/json;q=0, */*;q=0", False),
        ("application/json;q=nonsense", True),
        ("application/*", False),
        ("image/png;q=0, application/json;q=0.001", True),
    ],
)
def test_json_has_to_be_named_and_preferred(header: str, json: bool) -> None:
    assert prefers_json([header]) is json
    assert prefers_json(header.split(",")) is json


@given(st.lists(st.text(max_size=40), max_size=3))
def test_any_header_is_read(headers: list[str]) -> None:
    assert prefers_json(headers) in {True, False}
