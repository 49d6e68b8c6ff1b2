"""What the tests of coming and going models ask of a server."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import httpx

from tests.api.serving import Server


def names(server: Server) -> list[str]:
    return [model["id"] for model in server.get("/v1/models").json()["data"]]


def held(server: Server) -> dict[str, int]:
    """Bytes by what for."""
    found: dict[str, int] = server.get("/v1/models").json()["memory"]["held"]
    return found


def load(server: Server, model: Path | str, **fields: Any) -> httpx.Response:
    return server.post("/v1/models/load", {"model": str(model), **fields})


def unload(server: Server, name: str, **fields: Any) -> httpx.Response:
    return server.post("/v1/models/unload", {"model": name, **fields})


def error(answer: httpx.Response) -> tuple[int, str | None, str | None]:
    """Status, param and code."""
    found = answer.json()["error"]
    assert found["message"]
    return answer.status_code, found["param"], found["code"]


def assert_has(model: dict[str, Any], expected: dict[str, Any]) -> None:
    assert {key: model[key] for key in expected} == expected


def text(server: Server, model: str, prompt: str = "The quick", tokens: int = 12) -> str:
    """A greedy answer."""
    body = {"model": model, "prompt": prompt, "max_tokens": tokens, "temperature": 0}
    answer = server.post("/v1/completions", body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == model
    content: str = answer.json()["choices"][0]["text"]
    return content


def long_stream(server: Server, model: str, tokens: int, busy: Future[None]) -> list[str]:
    """The lines of a long answer; `busy` is told when it has begun."""
    body = {"model": model, "prompt": "go on", "max_tokens": tokens, "ignore_eos": True}
    url = f"{server.url}/v1/completions"
    with httpx.stream("POST", url, json={**body, "stream": True}, timeout=60) as answer:
        lines = []
        for line in answer.iter_lines():
            if line:
                lines.append(line)
            if not busy.done():
                busy.set_result(None)
    return lines


def assert_whole(lines: list[str]) -> None:
    """A stream that ran to its last token."""
    assert lines[-1] == "data: [DONE]"
    last = json.loads(lines[-2].removeprefix("data: "))
    assert last["choices"][0]["finish_reason"] == "length"


def until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it never came true")
