"""The rules on the logits against transformers' own, along random texts."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from transformers.generation.logits_process import (
    SuppressTokensLogitsProcessor,
    WhisperTimeStampLogitsProcessor,
)

from mlxsrv.engines.whisper.row import Row, draw
from mlxsrv.engines.whisper.rules import MAX_FIRST_STAMP, Rules
from mlxsrv.engines.whisper.vocabulary import Special

TEXT = 20
SPECIAL = Special(
    end=TEXT,
    start=TEXT + 1,
    translate=TEXT + 3,
    transcribe=TEXT + 4,
    previous=TEXT + 6,
    no_speech=TEXT + 7,
    no_stamps=TEXT + 8,
    languages={"en": TEXT + 2},
    suppressed=frozenset(),
)
FIRST = SPECIAL.first_stamp
SIZE = FIRST + 1501
FORBIDDEN = (3, TEXT + 1, TEXT + 6, TEXT + 8)
BLANK = (7, TEXT)
RULES = Rules(SPECIAL, np.array(FORBIDDEN), np.array(BLANK))
PROMPT = (SPECIAL.start, SPECIAL.languages["en"], SPECIAL.transcribe)


def theirs() -> WhisperTimeStampLogitsProcessor:
    settings_ = SimpleNamespace(
        no_timestamps_token_id=SPECIAL.no_stamps,
        eos_token_id=SPECIAL.end,
        bos_token_id=SPECIAL.end,
        max_initial_timestamp_index=MAX_FIRST_STAMP,
    )
    return WhisperTimeStampLogitsProcessor(settings_, begin_index=len(PROMPT))


def is_tie(allowed: NDArray[np.float32]) -> bool:
    """Whether all time stamps together are as likely as the likeliest other token."""
    stamps = np.logaddexp.reduce(allowed[FIRST:].astype(float))
    return abs(float(stamps) - float(allowed[:FIRST].max())) < 1e-4


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.floats(-9, 3))
def test_a_random_text_is_ruled_as_by_transformers(seed: int, stamps: float) -> None:
    rng = np.random.default_rng(seed)
    suppress, rules = SuppressTokensLogitsProcessor(list(FORBIDDEN)), theirs()
    written: list[int] = []
    for _ in range(25):
        logits = rng.normal(0, 3, SIZE).astype(np.float32)
        logits[FIRST:] += np.float32(stamps)
        ids = torch.tensor([[*PROMPT, *written]])
        scores = torch.from_numpy(logits.copy())[None]
        if not written:
            scores[:, list(BLANK)] = -torch.inf
        expected = rules(ids, suppress(ids, scores))[0].numpy()
        allowed = RULES.apply(logits, written)
        if is_tie(allowed) or is_tie(expected):  # which of the two wins is a matter of rounding
            break
        np.testing.assert_array_equal(allowed, expected)
        token = int(allowed.argmax())
        if token == SPECIAL.end:
            break
        written.append(token)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.4, 1.0]))
def test_what_a_row_writes_is_well_formed(seed: int, temperature: float) -> None:
    rng = np.random.default_rng(seed)
    row = Row(RULES, PROMPT, 0, most=40, temperature=temperature, seed=(seed,), listens=True)
    assert row.tokens == [SPECIAL.start]
    while not row.finished:
        row.accept(rng.normal(0, 2, SIZE).astype(np.float32))
    assert row.no_speech is not None
    assert row.tokens[: len(PROMPT)] == list(PROMPT)
    stamps = [token for token in row.written if token >= FIRST]
    assert FIRST <= row.written[0] <= FIRST + MAX_FIRST_STAMP
    assert stamps == sorted(stamps)
    assert not set(row.written) & set(FORBIDDEN)
    runs = "".join("t" if token >= FIRST else "x" for token in row.written)
    assert "ttt" not in runs
    assert row.logprob <= 0
    assert len(row.written) <= 40


def test_the_same_seed_draws_the_same_text() -> None:
    def drawn(seed: int) -> list[int]:
        rng = np.random.default_rng(1)
        row = Row(RULES, PROMPT, 0, most=30, temperature=1.0, seed=(seed,))
        while not row.finished:
            row.accept(rng.normal(0, 1, SIZE).astype(np.float32))
        return row.written

    assert drawn(1) == drawn(1) != drawn(2)


@settings(deadline=None)
@given(st.integers(0, 1000), st.floats(0, 1, exclude_max=True))
def test_a_draw_falls_where_its_point_lies(seed: int, point: float) -> None:
    rng = np.random.default_rng(seed)
    chances = (rng.random(1000) * (rng.random(1000) < 0.05)).astype(np.float32)
    chances[seed % 1000] = 1
    place = draw(chances, point)
    assert chances[place] > 0
    exact = np.cumsum(chances, dtype=float) / chances.sum(dtype=float)
    assert exact[place] >= point - 1e-5
    assert exact[place] - chances[place] / chances.sum(dtype=float) <= point + 1e-5


def test_an_english_model_listens_and_writes_at_once() -> None:
    row = Row(RULES, [SPECIAL.previous, 5, SPECIAL.start], 2, most=3, listens=True)
    logits = np.zeros(SIZE, np.float32)
    logits[SPECIAL.no_speech] = 20
    fed = row.accept(logits)
    assert row.no_speech == pytest.approx(1, abs=1e-3)
    assert fed == row.written
    assert row.tokens == [SPECIAL.previous, 5, SPECIAL.start, *fed]
