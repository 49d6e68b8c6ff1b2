"""How logits become scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxsrv.backends.relevance import Relevance, YesNo

logits = st.floats(-(2.0**60), 2.0**60, width=32)
several = st.integers(1, 4).flatmap(
    lambda labels: st.lists(st.lists(logits, min_size=labels, max_size=labels), min_size=1)
)


@given(several, st.booleans())
def test_scores_lie_between_0_and_1(rows: list[list[float]], independent: bool) -> None:
    scores = Relevance(-1, independent).scores(np.array(rows, np.float32))
    assert scores.dtype == np.float32
    assert ((scores >= 0) & (scores <= 1)).all()


@given(logits, logits)
def test_a_larger_logit_is_never_a_smaller_score(one: float, other: float) -> None:
    low, high = sorted((one, other))
    scores = Relevance(-1, independent=False).scores(np.array([[low], [high]], np.float32))
    assert scores[0] <= scores[1]


def test_scores_in_numbers() -> None:
    rows = np.array([[0.0, 1.0, 3.0]], np.float32)
    total = 1 + np.e + np.e**3
    assert Relevance(-1, independent=False).scores(rows)[0] == pytest.approx(np.e**3 / total)
    assert Relevance(1, independent=False).scores(rows)[0] == pytest.approx(np.e / total)
    assert Relevance(1, independent=True).scores(rows)[0] == pytest.approx(1 / (1 + 1 / np.e))


def test_yes_and_no_in_numbers() -> None:
    rows = np.array([[2.0, 1.0]], np.float32)
    assert YesNo(7, 8).scores(rows)[0] == pytest.approx(np.e**2 / (np.e**2 + np.e))
    assert YesNo(7, None).scores(rows[:, :1])[0] == pytest.approx(1 / (1 + np.e**-2))
