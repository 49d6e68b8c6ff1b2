"""A thousand hostile requests, and a good one that is answered as before after each batch."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.e2e.process import Process
from tests.faults import fuzzing

GOOD = {"prompt": "The quick brown", "max_tokens": 12, "temperature": 0, "logprobs": 2}
BATCH = 50


def good(client: httpx.Client, server: Process) -> Any:
    answer = client.post(f"{server.url}/v1/completions", json=GOOD)
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"]


@pytest.mark.slow
def test_no_request_gets_more_than_its_own_refusal(fuzzed: Process) -> None:
    with httpx.Client(timeout=60) as client:
        before = good(client, fuzzed)
        asked = 0

        @settings(
            max_examples=1000,
            derandomize=True,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        @given(fuzzing.requests())
        def one(request: fuzzing.Request) -> None:
            nonlocal asked
            answer = fuzzing.send(client, fuzzed.url, request)
            problem = fuzzing.fault(request, answer)
            assert problem is None, f"{problem}: {request}\n{answer.status_code} {answer.text}"
            asked += 1
            if asked % BATCH == 0:
                assert good(client, fuzzed) == before

        one()
        assert asked >= 1000
        assert good(client, fuzzed) == before
    assert fuzzed.metric("mlxsrv_running_sequences") == 0
    assert fuzzed.metric("mlxsrv_restarts_total") == 0
    assert "Traceback" not in fuzzed.output


CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "unsupported_method",
)


@pytest.mark.slow
def test_answers_are_as_our_own_openapi_document_says(fuzzed: Process, tmp_path: Path) -> None:
    """Schemathesis makes requests from the document, and holds the answers against it."""
    command = [
        str(Path(sys.executable).with_name("st")),
        *("run", f"{fuzzed.url}/openapi.json", "--seed", "1", "--max-examples", "30"),
        *("--checks", ",".join(CHECKS), "--phases", "examples,coverage,fuzzing"),
        *("--continue-on-failure", "--no-color"),
    ]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"[1-9]\d* generated, [1-9]\d* passed", done.stdout), done.stdout
    assert "Traceback" not in fuzzed.output
