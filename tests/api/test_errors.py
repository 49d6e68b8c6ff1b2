from __future__ import annotations

import logging

import pytest

from mlxsrv.api.errors import error_event, error_response
from mlxsrv.core import errors as e
from tests.api.shell import call, make_app, make_services, wrapped

ALL = [
    (e.InvalidRequest("m"), 400, "invalid_request_error"),
    (e.ContextLengthExceeded("m"), 400, "invalid_request_error"),
    (e.Unsupported("m"), 400, "invalid_request_error"),
    (e.Unauthenticated("m"), 401, "authentication_error"),
    (e.Forbidden("m"), 403, "permission_error"),
    (e.ModelNotFound("m"), 404, "not_found_error"),
    (e.KindNotLoaded("m"), 404, "not_found_error"),
    (e.MethodNotAllowed("m"), 405, "invalid_request_error"),
    (e.Conflict("m"), 409, "invalid_request_error"),
    (e.TooLarge("m"), 413, "invalid_request_error"),
    (e.UnsupportedMedia("m"), 415, "invalid_request_error"),
    (e.RateLimited("m", retry_after=1.2), 429, "rate_limit_error"),
    (e.Overloaded("m"), 503, "overloaded_error"),
    (e.DeviceDead("m"), 503, "overloaded_error"),
    (e.GenerationFailed("m"), 500, "server_error"),
    (e.CheckpointRefused("m"), 400, "invalid_request_error"),
]


@pytest.mark.parametrize(("error", "status", "kind"), ALL)
def test_each_exception_has_its_status_and_type(
    error: e.MlxsrvError, status: int, kind: str
) -> None:
    app = wrapped()
    assert app is not None
    response = error_response("/v1/chat/completions", error)
    assert response.status_code == status
    expected = f'{{"error":{{"message":"m","type":"{kind}","param":null,"code":"{error.code}"}}}}'
    assert bytes(response.body).decode() == expected


def test_retry_after_is_a_whole_number_of_at_least_one() -> None:
    def after(error: e.MlxsrvError) -> str:
        return error_response("/v1/x", error).headers["retry-after"]

    assert after(e.RateLimited("m", retry_after=1.2)) == "2"
    assert after(e.Overloaded("m", retry_after=0.0)) == "1"
    assert after(e.Overloaded("m")) == "1"


def test_dialects_by_path() -> None:
    app = wrapped()
    openai = call(app, "GET", "/v1/nowhere")
    assert openai.status_code == 404
    assert openai.json() == {
        "error": {
            "message": "Unknown route: GET /v1/nowhere",
            "type": "not_found_error",
            "param": None,
            "code": "unknown_url",
        }
    }
    anthropic = call(app, "GET", "/v1/messages/nowhere").json()
    assert anthropic["type"] == "error"
    assert anthropic["error"]["message"] == "Unknown route: GET /v1/messages/nowhere"
    for path in ("/api/v1/nowhere", "/inference"):
        assert call(app, "POST", path).json() == {"error": f"Unknown route: POST {path}"}


@pytest.mark.parametrize("path", ["/v1/chat", "/v1/messages", "/api/v1/chat"])
def test_wrong_method_says_what_is_allowed(path: str) -> None:
    answer = call(wrapped(), "DELETE", path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    error = answer.json()["error"]
    message = error if isinstance(error, str) else error["message"]
    assert message == f"Method not allowed: DELETE {path} (allowed: POST)"


def test_a_bug_is_a_500_that_tells_nothing_but_to_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.ERROR):
        answer = call(wrapped(), "GET", "/v1/boom", headers={"x-request-id": "mine-1"})
    assert answer.status_code == 500
    assert answer.json()["error"]["type"] == "server_error"
    assert "secret" not in answer.text
    assert "weights" not in answer.text
    assert answer.headers["x-request-id"] == "mine-1"
    assert "secret" in caplog.text


def test_a_load_error_hides_folders() -> None:
    response = error_response("/v1/x", e.LoadError("/home/me/model: no config.json"))
    assert response.status_code == 500
    assert b"/home/me" not in bytes(response.body)


def test_error_event_is_one_event_in_each_dialect() -> None:
    error = e.GenerationFailed("broke\nhere")
    plain = error_event("/v1/chat/completions", error)
    assert plain.startswith(b'data: {"error":{"message":"broke\\nhere"')
    assert plain.endswith(b"\n\n")
    assert plain.count(b"\n") == 2
    named = error_event("/v1/messages", error)
    assert named.startswith(b'event: error\ndata: {"type":"error","error":{"type":"api_error"')


INVALID = [
    ({}, "messages", "messages: is required"),
    ({"messages": 5}, "messages", "messages: should be a list"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content", None),
    (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}]},
        "messages.0.content.0.text",
        "messages.0.content.0.text: should be a string",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
        "messages.0.content.0.text",
        "messages.0.content.0.text: is required",
    ),
    (
        {
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": 1}}]}
            ]
        },
        "messages.0.content.0.image_url.url",
        "messages.0.content.0.image_url.url: should be a string",
    ),
    ({"messages": [{"role": "robot", "content": ""}]}, "messages.0.role", None),
    ({"messages": [], "temperature": 3}, "temperature", None),
    ({"messages": [], "temperature": "hot"}, "temperature", "temperature: should be a number"),
    ({"messages": [], "stop": 5}, "stop", "stop: should be a string or should be a list"),
    ({"messages": [], "stop": ["a", 5]}, "stop.1", "stop.1: should be a string"),
    ({"messages": [], "nonsense": 1}, "nonsense", "nonsense: is not a known field"),
]


@pytest.mark.parametrize(("body", "param", "message"), INVALID)
def test_invalid_fields_are_named_by_their_path(
    body: object, param: str, message: str | None
) -> None:
    answer = call(wrapped(), "POST", "/v1/chat", json=body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"
    assert message is None or error["message"] == message


def test_errors_inside_the_bare_app_answer_too() -> None:
    answer = call(make_app(make_services()), "POST", "/v1/chat", json={"messages": 1})
    assert answer.status_code == 400
