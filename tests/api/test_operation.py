"""Health, metrics, request ids, the access log, split ports."""

from __future__ import annotations

import io
import logging
from typing import Any, cast

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mlxsrv import __version__
from mlxsrv.api.log import KeyValueFormatter, setup_logging
from mlxsrv.core.kinds import Kind
from tests.api.shell import StandInRegistry, call, make_services, wrapped

CHAT = {"messages": [{"role": "user", "content": "my secret prompt"}]}


def test_health_by_state() -> None:
    services = make_services()
    app = wrapped(services)
    registry = cast(StandInRegistry, services.registry)
    ok = call(app, "GET", "/health")
    assert ok.status_code == 200
    assert ok.json() == {
        "status": "ok",
        "version": __version__,
        "backend": "torch",
        "models": {"loaded": 1, "available": 2},
        "in_flight": 0,
    }
    head = call(app, "HEAD", "/health")
    assert (head.status_code, head.content) == (200, b"")
    registry.now = "loading"
    assert call(app, "GET", "/health").json()["status"] == "loading"
    registry.now = "ready"
    cast(Any, services.device).alive = False
    dead = call(app, "GET", "/health")
    assert (dead.status_code, dead.json()["status"]) == (503, "dead")
    assert call(app, "HEAD", "/health").status_code == 503


def test_draining_refuses_all_but_the_operator() -> None:
    services = make_services()
    app = wrapped(services)
    services.lifecycle.drain()
    answer = call(app, "POST", "/v1/chat", json=CHAT)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "shutting_down"
    assert answer.headers["connection"] == "close"
    assert "x-request-id" in answer.headers
    assert call(app, "GET", "/metrics").status_code == 200
    health = call(app, "GET", "/health")
    assert (health.status_code, health.json()["status"]) == (503, "draining")


def scrape(app: Any, path: str = "/metrics") -> dict[str, Any]:
    answer = call(app, "GET", path)
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {family.name: family for family in text_string_to_metric_families(answer.text)}


def samples(family: Any) -> dict[tuple[str, ...], float]:
    return {(s.name, *s.labels.values()): s.value for s in family.samples}


def test_every_family_is_typed_and_described_before_anything_happened() -> None:
    families = scrape(wrapped())
    types = {name: family.type for name, family in families.items()}
    assert types == {
        "mlxsrv_requests": "counter",
        "mlxsrv_prompt_tokens": "counter",
        "mlxsrv_generated_tokens": "counter",
        "mlxsrv_cached_tokens": "counter",
        "mlxsrv_padding_tokens": "counter",
        "mlxsrv_time_to_first_token_seconds": "histogram",
        "mlxsrv_inter_token_seconds": "histogram",
        "mlxsrv_queue_length": "gauge",
        "mlxsrv_running_sequences": "gauge",
        "mlxsrv_transcribed_seconds": "counter",
        "mlxsrv_transcribed_segments": "counter",
        "mlxsrv_running_transcriptions": "gauge",
        "mlxsrv_spoken_seconds": "counter",
        "mlxsrv_running_speech": "gauge",
        "mlxsrv_images": "counter",
        "mlxsrv_image_steps": "counter",
        "mlxsrv_running_images": "gauge",
        "mlxsrv_slice_seconds": "histogram",
        "mlxsrv_restarts": "counter",
        "mlxsrv_memory_bytes": "gauge",
        "mlxsrv_memory_budget_bytes": "gauge",
        "mlxsrv_model_loads": "counter",
        "mlxsrv_models": "gauge",
    }
    assert all(family.documentation for family in families.values())


def test_the_numbers_are_those_of_the_meters() -> None:
    services = make_services()
    app = wrapped(services)
    text = cast(StandInRegistry, services.registry).text
    text.prompt_tokens, text.generated_tokens, text.queue_length, text.running = 11, 22, 3, 4
    encoder = cast(StandInRegistry, services.registry).encoder
    encoder.tokens, encoder.padding_tokens, encoder.queue_length = 7, 5, 6
    whisper = cast(StandInRegistry, services.registry).transcription
    whisper.seconds, whisper.segments, whisper.generated_tokens = 90.5, 3, 40
    whisper.queue_length, whisper.running = 1, 2
    speech = cast(StandInRegistry, services.registry).speech
    speech.seconds, speech.queue_length, speech.running = 12.5, 5, 3
    image = cast(StandInRegistry, services.registry).image
    image.pictures, image.steps, image.queue_length, image.running = 3, 70, 8, 2
    text.time_to_first_token.observe(0.3)
    text.time_to_first_token.observe(1000)
    services.device.meters.observe("text", 0.004)
    call(app, "POST", "/v1/chat", json=CHAT)
    call(app, "POST", "/v1/chat", json={})
    call(app, "GET", "/v1/models/any/thing")
    call(app, "GET", "/v1/any/../path")
    call(app, "PUT", "/v1/chat")
    families = scrape(app, "/v1/metrics")
    name = "mlxsrv_requests_total"
    assert samples(families["mlxsrv_requests"]) == {
        (name, "/v1/chat", "200"): 1,
        (name, "/v1/chat", "400"): 1,
        (name, "/v1/models/{name:path}", "200"): 1,
        (name, "unmatched", "404"): 1,
        (name, "/v1/chat", "405"): 1,
    }
    assert samples(families["mlxsrv_prompt_tokens"]) == {("mlxsrv_prompt_tokens_total",): 18}
    assert samples(families["mlxsrv_queue_length"]) == {("mlxsrv_queue_length",): 23}
    assert samples(families["mlxsrv_generated_tokens"]) == {("mlxsrv_generated_tokens_total",): 62}
    for kind, value in (("seconds", 90.5), ("segments", 3)):
        family = f"mlxsrv_transcribed_{kind}"
        assert samples(families[family]) == {(f"{family}_total",): value}
    running = "mlxsrv_running_transcriptions"
    assert samples(families[running]) == {(running,): 2}
    assert samples(families["mlxsrv_spoken_seconds"]) == {("mlxsrv_spoken_seconds_total",): 12.5}
    assert samples(families["mlxsrv_running_speech"]) == {("mlxsrv_running_speech",): 3}
    assert samples(families["mlxsrv_images"]) == {("mlxsrv_images_total",): 3}
    assert samples(families["mlxsrv_image_steps"]) == {("mlxsrv_image_steps_total",): 70}
    assert samples(families["mlxsrv_running_images"]) == {("mlxsrv_running_images",): 2}
    assert samples(families["mlxsrv_running_sequences"]) == {("mlxsrv_running_sequences",): 4}
    first = samples(families["mlxsrv_time_to_first_token_seconds"])
    prefix = "mlxsrv_time_to_first_token_seconds"
    assert first[f"{prefix}_count",] == 2
    assert first[f"{prefix}_sum",] == pytest.approx(1000.3)
    assert first[f"{prefix}_bucket", "0.5"] == 1
    slices = samples(families["mlxsrv_slice_seconds"])
    assert slices["mlxsrv_slice_seconds_count", "text"] == 1
    assert samples(families["mlxsrv_memory_bytes"]) == {("mlxsrv_memory_bytes", "weights"): 1024}
    assert samples(families["mlxsrv_memory_budget_bytes"]) == {
        ("mlxsrv_memory_budget_bytes",): 4096
    }
    loads = samples(families["mlxsrv_model_loads"])
    assert loads["mlxsrv_model_loads_total", "tiny"] == 2
    padding = samples(families["mlxsrv_padding_tokens"])
    assert padding == {("mlxsrv_padding_tokens_total",): 5}
    assert samples(families["mlxsrv_models"])["mlxsrv_models", "available"] == 2


@pytest.mark.parametrize("given", ["abc-123", "x" * 64, "a/b:c"])
def test_the_callers_request_id_is_kept(given: str) -> None:
    answer = call(wrapped(), "GET", "/v1/nowhere", headers={"x-request-id": given})
    assert answer.headers.get_list("x-request-id") == [given]


@pytest.mark.parametrize("given", ["x" * 65, "", "a b", "é".encode(), b"a\x01b"])
def test_an_unfit_request_id_is_replaced(given: str | bytes) -> None:
    answer = call(wrapped(), "GET", "/health", headers=[(b"x-request-id", given)])
    assert answer.headers["x-request-id"].startswith("req_")


def test_one_structured_line_a_request_without_its_content() -> None:
    lines = io.StringIO()
    handler = logging.StreamHandler(lines)
    handler.setFormatter(KeyValueFormatter())
    logger = logging.getLogger("mlxsrv.access")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        app = wrapped()
        call(app, "POST", "/v1/chat", json=CHAT, headers={"x-request-id": "id-7"})
        call(app, "POST", "/v1/chat", json={"messages": "my secret prompt"})
        call(app, "GET", "/v1/evil%0Alevel=error")
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
    first, second, third = lines.getvalue().splitlines()
    for part in ("request_id=id-7", "method=POST", "route=/v1/chat", "status=200", "model=demo"):
        assert part in first
    assert "prompt_tokens=7 completion_tokens=3" in first
    assert "status=400" in second
    assert 'path="/v1/evil\\nlevel=error"' in third
    assert "secret" not in lines.getvalue()


def test_setup_logging_routes_uvicorn_the_same_way() -> None:
    lines = io.StringIO()
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    try:
        setup_logging("info")
        setup_logging("info", lines)
        logging.getLogger("uvicorn.error").info("routine")
        logging.getLogger("uvicorn.error").warning("worth knowing")
        logging.getLogger("mlxsrv.x").info("once", extra={"fields": {"n": 1.5}})
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.getLogger("uvicorn.access").disabled = False
    first, second = lines.getvalue().splitlines()
    assert 'level=warning logger=uvicorn.error msg="worth knowing"' in first
    assert "level=info logger=mlxsrv.x msg=once n=1.500" in second


def test_a_port_has_its_kind() -> None:
    services = make_services()
    services.ports[8081] = Kind.EMBEDDING
    app = wrapped(services)
    for port, kind in ((8080, None), (8081, "embedding")):
        url = f"http://127.0.0.1:{port}/v1/models/m"
        assert call(app, "GET", url).json() == {"id": "m", "kind": kind}
