from __future__ import annotations

import pytest

from mlxsrv.api.guard import same_origin, split_host
from tests.api.shell import call, make_services, wrapped

CHAT = {"messages": [{"role": "user", "content": "hi"}]}
PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type",
}


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:8080", "localhost:8080", "LOCALHOST", "[::1]:8080", "a.localhost", "box.lan"],
)
def test_local_and_listed_hosts_are_served(host: str) -> None:
    app = wrapped(allowed_hosts=("box.lan",))
    assert call(app, "GET", "/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.nip.io:8080", "192.168.1.5:8080", "localhost.evil.example", ""],
)
@pytest.mark.parametrize("path", ["/v1/chat", "/health", "/"])
def test_a_rebound_dns_name_is_refused(host: str, path: str) -> None:
    answer = call(wrapped(), "GET", path, headers={"Host": host})
    assert answer.status_code == 403
    assert answer.json()["error"]["type"] == "permission_error"
    assert "allowed_hosts" in answer.json()["error"]["message"]


def test_any_host_will_do_where_the_address_is_public() -> None:
    app = wrapped(address="0.0.0.0:8080", api_key="k")
    assert call(app, "GET", "/health", headers={"Host": "box.lan"}).status_code == 200


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "http://localhost:3000", "file://", "http://127.0.0.1"],
)
def test_foreign_origins_are_refused_before_the_key(origin: str) -> None:
    app = wrapped(api_key="k")
    for method, path in (("POST", "/v1/chat"), ("GET", "/health"), ("POST", "/api/v1/chat")):
        answer = call(app, method, path, headers={"Origin": origin})
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers


def test_the_servers_own_pages_may_call() -> None:
    answer = call(
        wrapped(), "POST", "/v1/chat", json=CHAT, headers={"Origin": "http://127.0.0.1:8080"}
    )
    assert answer.status_code == 200


def test_listed_origins_get_cors_headers_on_errors_too() -> None:
    origin = {"Origin": "http://localhost:3000"}
    app = wrapped(cors_enabled=True, cors_origins=("http://localhost:3000",), api_key="k")
    answer = call(app, "POST", "/v1/chat", json=CHAT, headers=origin)
    assert answer.status_code == 401
    assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"
    assert answer.headers["vary"] == "Origin"
    assert "x-request-id" in answer.headers["access-control-expose-headers"]
    assert "x-ratelimit-remaining-tokens" in answer.headers["access-control-expose-headers"]
    other = call(app, "POST", "/v1/chat", json=CHAT, headers={"Origin": "http://other:3000"})
    assert other.status_code == 403


def test_a_preflight_needs_no_key() -> None:
    app = wrapped(cors_origins=("*",), api_key="k")
    answer = call(
        app, "OPTIONS", "/v1/chat", headers={"Origin": "http://localhost:3000", **PREFLIGHT}
    )
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"
    assert answer.headers["access-control-allow-headers"] == "authorization,content-type"
    assert "POST" in answer.headers["access-control-allow-methods"]
    refused = call(
        wrapped(api_key="k"), "OPTIONS", "/v1/chat", headers={"Origin": "http://x.y", **PREFLIGHT}
    )
    assert refused.status_code == 403


def test_cors_switched_off_beats_its_list() -> None:
    app = wrapped(cors_enabled=False, cors_origins=("*",))
    assert call(app, "GET", "/health", headers={"Origin": "http://x.y"}).status_code == 403


def test_preflights_do_not_count_against_the_rate() -> None:
    app = wrapped(cors_origins=("*",), max_requests_per_minute=1)
    for _ in range(3):
        answer = call(app, "OPTIONS", "/v1/chat", headers={"Origin": "http://x.y", **PREFLIGHT})
        assert answer.status_code == 204
        assert answer.headers["x-ratelimit-remaining-requests"] == "1"


def test_hosts_and_origins_are_compared_by_their_parts() -> None:
    assert split_host("[::1]:80") == ("::1", "80")
    assert split_host("LocalHost.") == ("localhost", "")
    assert same_origin("http://localhost", "localhost:80")
    assert same_origin("https://box.lan", "box.lan")
    assert not same_origin("http://localhost:8080", "localhost:8081")
    assert not same_origin("null", "null")
    assert make_services().settings.api.cors_enabled is False
