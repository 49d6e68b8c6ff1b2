"""Pictures measured on a real server of ours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlxsrv.bench.scenarios import drawing, listening
from mlxsrv.cli.main import main


def measured(tmp_path: Path, *words: str) -> dict[str, dict[tuple[str, str], float]]:
    """Medians by target, then by case and name."""
    written = tmp_path / "bench.json"
    always = ["--dir", str(tmp_path), "--json", str(written), "--against", "none"]
    assert main(["bench", *words, "--rounds", "1", *always]) == 0
    (result,) = json.loads(written.read_text())["results"]
    assert result["notes"] == []
    return {
        target["name"]: {(m["case"], m["name"]): m["median"] for m in target["metrics"]}
        for target in result["targets"]
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "libraries"),
    [("torch", ["diffusers", "torch backend alone"]), ("mlx", ["MLX backend alone"])],
)
def test_the_picture_is_that_of_the_libraries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str, libraries: list[str]
) -> None:
    monkeypatch.setattr(drawing, "SIDE", 64)
    monkeypatch.setattr(drawing, "STEPS", 2)
    found = measured(tmp_path, "images", "--backend", backend)
    assert list(found) == [*libraries, f"mlxsrv {backend}"]
    first, *others = (medians["", "brightness of the picture"] for medians in found.values())
    assert others == pytest.approx([first] * len(others), abs=0.1)
    assert all(medians["", "pace"] > 0 for medians in found.values())
    assert 0 < found[f"mlxsrv {backend}"]["two at once", "first done / last done"] <= 1


@pytest.mark.slow
def test_a_chat_beside_pictures_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "ALONE", 2)
    monkeypatch.setattr(drawing, "ALONE", 2)
    (beside,) = measured(tmp_path, "image-interference", "--backend", "torch").values()
    assert beside["", "errors"] == 0
    assert 0 < beside["beside", "gap, p95"] <= beside["beside", "gap, longest"]
