"""Loads by API and the life of the process."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import httpx
import pytest

from tests import hub_double, tiny_models
from tests.e2e.process import serve


@pytest.mark.slow
def test_a_download_does_not_keep_the_server_from_stopping(tmp_path: Path) -> None:
    folder = tiny_models.build(tmp_path / "tiny")
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    flags = ("--backend", "torch", "--allow-download", "--drain-seconds", "0.1")
    with hub_double.running({"org/far": files}) as hub:
        hub.pause = 0.5  # more than a minute for the whole model
        variables = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf")}
        with serve(tmp_path, str(folder), *flags, **variables) as server:
            body = {"model": "org/far", "stream": True}
            url = f"{server.url}/v1/models/load"
            with httpx.stream("POST", url, json=body, timeout=60) as answer:
                lines = (line for line in answer.iter_lines() if line.startswith("data: "))
                assert '"stage":"download"' in next(lines)
                server.child.send_signal(signal.SIGTERM)
                *_, last = lines
            assert server.child.wait(20) == 0
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "shutting_down"
