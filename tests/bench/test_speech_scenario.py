"""Speech measured on a real server of ours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlxsrv.bench.scenarios import speaking
from mlxsrv.cli.main import main

pytest.importorskip("espeakng_loader")


@pytest.mark.slow
def test_speech_is_measured_alone_and_beside_a_chat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speaking, "ALONE", 2)
    monkeypatch.setattr(speaking, "ASKED", 3)
    written = tmp_path / "bench.json"
    words = ["--backend", "torch", "--against", "none", "--rounds", "1"]
    where = ["--dir", str(tmp_path), "--json", str(written)]
    assert main(["bench", "speech", *words, *where]) == 0
    (result,) = json.loads(written.read_text())["results"]
    (target,) = result["targets"]
    found = {(m["case"], m["name"]): m["median"] for m in target["metrics"]}
    assert found["", "errors"] == 0
    assert 0 < found["one sentence", "first sound"] < 1000
    assert found["500 words", "first sound / that of one sentence"] > 0
    assert 0 < found["beside", "gap, p95"] <= found["beside", "gap, longest"]
