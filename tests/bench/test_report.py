from __future__ import annotations

import json
from pathlib import Path
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxsrv.bench import picture, report
from mlxsrv.bench.answer import Answer
from mlxsrv.bench.metrics import Metric, load_sample
from mlxsrv.bench.results import Result, Target
from mlxsrv.bench.scenarios.interference import standstill
from mlxsrv.bench.settings import Settings
from mlxsrv.bench.stats import Spread, percentile, ratio

VALUES = st.lists(st.floats(0.001, 1e6), min_size=1, max_size=30)
SPEED = Metric("16 streams", "throughput", "tok/s", "more")
ERRORS = Metric("16 streams", "errors")


@given(VALUES, st.floats(0, 1), st.floats(0, 1))
def test_percentiles_rise_from_least_to_most(values: list[float], a: float, b: float) -> None:
    low, high = sorted((percentile(values, a), percentile(values, b)))
    if a <= b:
        assert percentile(values, a) <= percentile(values, b) * (1 + 1e-9)
    assert min(values) <= low * (1 + 1e-9)
    assert high <= max(values) * (1 + 1e-9)
    assert percentile(values, 0.5) == pytest.approx(median(values))


def test_a_percentile_of_nothing() -> None:
    with pytest.raises(ValueError, match="nothing"):
        percentile([], 0.5)


@given(VALUES)
def test_spread_holds_its_median(values: list[float]) -> None:
    spread = Spread.of(values)
    assert spread.least <= spread.median <= spread.most


def test_ratios_compare_round_by_round() -> None:
    # The machine was twice as slow in the second round: for both, so it does not matter.
    assert ratio([100, 50, 100], [200, 100, 200]) == 0.5
    assert ratio([1.0], [0.0]) is None


def test_throughput_counts_all_tokens_over_the_whole_time() -> None:
    answers = [
        Answer(0.0, 4.0, arrivals=(1.0, 2.0, 4.0), tokens=3),
        Answer(1.0, 5.0, arrivals=(2.0, 3.0, 5.0), tokens=3),
        Answer(0.0, 0.5, error="HTTP 503"),
    ]
    sample = {m.name: value for m, value in load_sample("3 streams", [answers]).items()}
    assert sample["errors"] == 1
    assert sample["throughput"] == 6 / 5
    assert sample["first token"] == 1000
    assert sample["gap, median"] == 1500


def test_standstill_tells_the_usual_gap_from_the_longest_during_the_prompt() -> None:
    before = [0.1 * step for step in range(11)]
    answer = Answer(0.0, 9.0, arrivals=(*before, 1.8, 1.9, 2.0, 9.0))
    usual, longest = standstill([answer], begin=1.05, end=1.95)
    assert usual == pytest.approx(0.1)
    assert longest == pytest.approx(0.8)


def result() -> Result:
    limit = Target("BatchGenerator", "mlx", "limit", [{SPEED: 200.0}, {SPEED: 100.0}])
    ours = Target("mlxsrv mlx", "mlx", "ours", [{SPEED: 180.0, ERRORS: 0}, {SPEED: 90.0}])
    peer = Target("mlx_lm.server", "mlx", "peer", [{SPEED: 90.0, ERRORS: 0}, {SPEED: 45.0}])
    return Result("throughput", "streams", "tiny", [limit, ours, peer], ["llama_cpp: no"])


def test_the_table_has_medians_spread_and_ratios() -> None:
    assert report.rows(result()) == [
        ("16 streams throughput, tok/s", "BatchGenerator", "150", "100", "200", "", ""),
        ("", "mlxsrv mlx", "135", "90", "180", "0.90", ""),
        ("", "mlx_lm.server", "67.5", "45", "90", "0.45", "2.00"),
    ]
    assert report.remarks(result()) == ["no errors", "note: llama_cpp: no"]


def test_errors_are_shown_where_there_are_any() -> None:
    found = result()
    found.targets[2].samples[0][ERRORS] = 3
    assert ("16 streams errors", "mlxsrv mlx", "0", "0", "0", "", "") in report.rows(found)
    assert "no errors" not in report.remarks(found)


def test_the_document_keeps_every_round(tmp_path: Path) -> None:
    written = json.loads(json.dumps(report.document([result()], Settings(tmp_path))))
    ours = written["results"][0]["targets"][1]
    assert ours["metrics"][0]["rounds"] == [180.0, 90.0]
    assert ours["metrics"][0]["of_limit"] == 0.9
    assert written["machine"]["cpus"] > 0


def test_the_picture_is_a_png(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture.draw([result(), result()], tmp_path / "bench.png")
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")
