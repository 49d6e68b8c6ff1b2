from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxsrv.api.limits import RateLimiter, duration
from mlxsrv.core.errors import RateLimited
from tests.api.shell import call, make_services, wrapped

CHAT = {"messages": [{"role": "user", "content": "hi"}]}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def limiter(requests: int | None, tokens: int | None = None) -> tuple[RateLimiter, Clock]:
    clock = Clock()
    return RateLimiter(requests, tokens, clock=clock, max_identities=100), clock


def test_a_minute_has_its_requests_and_no_more() -> None:
    limits, clock = limiter(3)
    for _ in range(3):
        limits.admit("a")
    with pytest.raises(RateLimited, match="3 requests per minute") as caught:
        limits.admit("a")
    assert caught.value.retry_after == pytest.approx(20, abs=0.01)
    limits.admit("b")
    clock.now += 20
    limits.admit("a")


def test_a_refused_request_costs_nothing() -> None:
    limits, _ = limiter(10, 100)
    limits.admit("a", 90)
    with pytest.raises(RateLimited, match="tokens per minute"):
        limits.admit("a", 50)
    assert limits.headers("a")["x-ratelimit-remaining-requests"] == "9"
    assert limits.headers("a")["x-ratelimit-remaining-tokens"] == "10"


def test_generated_tokens_put_the_bucket_into_debt() -> None:
    limits, clock = limiter(None, 60)
    limits.admit("a", 10)
    limits.charge("a", 100)
    assert limits.headers("a")["x-ratelimit-remaining-tokens"] == "0"
    with pytest.raises(RateLimited):
        limits.admit("a")
    clock.now += 51
    limits.admit("a")


def test_a_request_larger_than_a_minutes_tokens_waits_for_a_full_bucket() -> None:
    limits, clock = limiter(None, 60)
    limits.admit("a", 600)
    with pytest.raises(RateLimited) as caught:
        limits.admit("a", 600)
    assert caught.value.retry_after == pytest.approx(600, abs=1)
    clock.now += 600
    limits.admit("a", 600)


OPERATIONS = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 200), st.floats(0, 120), st.integers(0, 50))
)


@given(st.integers(1, 20), st.integers(1, 100), OPERATIONS)
def test_waiting_as_told_always_suffices_and_nothing_exceeds_the_allowance(
    requests: int, tokens: int, operations: list[tuple[str, int, float, int]]
) -> None:
    limits, clock = limiter(requests, tokens)
    admitted = {"a": 0, "b": 0}
    began = clock.now
    for identity, cost, pause, generated in operations:
        clock.now += pause
        try:
            limits.admit(identity, cost)
        except RateLimited as error:
            clock.now += error.retry_after or 0
            limits.admit(identity, cost)
        admitted[identity] += 1
        limits.charge(identity, generated)
        found = limits.headers(identity)
        assert 0 <= int(found["x-ratelimit-remaining-requests"]) <= requests
        assert 0 <= int(found["x-ratelimit-remaining-tokens"]) <= tokens
        assert admitted[identity] <= requests * (1 + (clock.now - began) / 60) + 0.01


def test_identities_are_bounded() -> None:
    limits, _ = limiter(1)
    for number in range(1000):
        limits.admit(f"peer:{number}")
    limits.admit("peer:0")  # forgotten
    with pytest.raises(RateLimited):
        limits.admit("peer:999")


def test_asking_for_headers_remembers_nobody() -> None:
    limits, _ = limiter(5)
    assert limits.headers("x")["x-ratelimit-reset-requests"] == "0ms"
    limits.admit("x")
    assert limits.headers("x")["x-ratelimit-reset-requests"] == "12s"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.12, "120ms"), (8.64, "8.64s"), (1, "1s"), (360, "6m0s"), (90, "1m30s")]
)
def test_durations_are_written_as_openai_does(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_headers_on_every_answer_and_429_after_404() -> None:
    app = wrapped(max_requests_per_minute=2, max_tokens_per_minute=1000)
    first = call(app, "POST", "/v1/chat", json=CHAT)
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    assert first.headers["x-ratelimit-remaining-tokens"] == "999"
    # Neither what fails before admission counts, nor health:
    assert call(app, "POST", "/v1/chat", json={}).status_code == 400
    assert call(app, "POST", "/v1/chat", json={**CHAT, "model": "nobody"}).status_code == 404
    health = call(app, "GET", "/health")
    assert health.headers["x-ratelimit-remaining-requests"] == "1"
    assert call(app, "GET", "/v1/models/a/b").status_code == 200
    refused = call(app, "POST", "/v1/chat", json=CHAT)
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 30
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    unknown = call(app, "POST", "/v1/chat", json={**CHAT, "model": "nobody"})
    assert unknown.status_code == 404


def test_keys_and_peers_have_allowances_of_their_own() -> None:
    services = make_services(max_requests_per_minute=5, api_key="k")
    app = wrapped(services)
    call(app, "POST", "/v1/chat", json=CHAT, headers={"x-api-key": "k"})
    assert services.limiter.headers("key")["x-ratelimit-remaining-requests"] == "4"
    assert services.limiter.headers("peer:10.0.0.9")["x-ratelimit-remaining-requests"] == "5"


def test_no_headers_without_limits() -> None:
    answer = call(wrapped(), "POST", "/v1/chat", json=CHAT)
    assert not [name for name in answer.headers if name.startswith("x-ratelimit")]
