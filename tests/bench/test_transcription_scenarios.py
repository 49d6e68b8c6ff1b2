"""Transcription, its memory and its neighbours, measured on real servers of ours."""

from __future__ import annotations

import json
import wave
from pathlib import Path
from typing import Any

import pytest

from mlxsrv.backends.checkpoint import read
from mlxsrv.backends.whisper_files import read_sizes
from mlxsrv.bench import whispers
from mlxsrv.bench.scenarios import transcription
from mlxsrv.cli.main import main

SMALL = whispers.Shape(96, (1, 1), 3)


@pytest.fixture(autouse=True)
def small_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in whispers.SHAPES:
        monkeypatch.setitem(whispers.SHAPES, name, SMALL)


def measured(tmp_path: Path, *words: str) -> dict[str, dict[tuple[str, str], float]]:
    """Medians by target, then by case and name."""
    written = tmp_path / "bench.json"
    always = ["--dir", str(tmp_path), "--json", str(written), "--against", "none"]
    assert main(["bench", *words, "--rounds", "1", "--minutes", "1", *always]) == 0
    (result,) = json.loads(written.read_text())["results"]
    assert result["notes"] == []
    return {target["name"]: medians(target) for target in result["targets"]}


def medians(target: dict[str, Any]) -> dict[tuple[str, str], float]:
    return {(m["case"], m["name"]): m["median"] for m in target["metrics"]}


def test_both_layouts_are_read(tmp_path: Path) -> None:
    made = whispers.ensure("whisper", tmp_path)
    sizes = read_sizes(made.folder)
    assert (sizes.width, sizes.vocab_size, sizes.audio_context) == (96, 51_865, 1500)
    assert read(made.folder).kind == "stt"
    assert read_sizes(whispers.converted(made, tmp_path)) == sizes


def test_sound_is_as_long_as_it_should_be(tmp_path: Path) -> None:
    with wave.open(str(whispers.recording(2, tmp_path))) as file:
        assert (file.getframerate(), file.getnframes()) == (16_000, 32_000)
        assert len(set(file.readframes(32_000))) > 100


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "library"), [("torch", "transformers pipeline"), ("mlx", "mlx-whisper")]
)
def test_the_text_is_that_of_the_libraries(tmp_path: Path, backend: str, library: str) -> None:
    pytest.importorskip("mlx_whisper")
    found = measured(tmp_path, "transcription", "--backend", backend)
    assert set(found) == {library, f"mlxsrv {backend}"}
    sums = {medians["", "checksum of the text"] for medians in found.values()}
    assert len(sums) == 1
    assert all(medians["", "pace"] > 0 for medians in found.values())


@pytest.mark.slow
def test_memory_and_neighbours_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transcription, "LENGTHS", (1,))
    (memory,) = measured(tmp_path, "transcription-memory", "--backend", "torch").values()
    assert 0 < memory["1 min", "memory above that, most"] < 300
    words = ["transcription-interference", "--backend", "torch"]
    (beside,) = measured(tmp_path, *words).values()
    assert beside["alone", "gap, p95"] > 0
    assert beside["beside", "gap, longest"] >= beside["beside", "gap, p95"]
