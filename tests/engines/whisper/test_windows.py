"""Cutting a window's text, and where the next window begins."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxsrv.engines.whisper.fallback import Decoded, compression_ratio
from mlxsrv.engines.whisper.windows import cut

FIRST = 100


def stamp(seconds: float) -> int:
    return FIRST + round(seconds / 0.02)


@pytest.mark.parametrize(
    ("tokens", "spans", "seek", "complete"),
    [
        # Two segments, and a third that has no end: it is heard again.
        (
            [stamp(0), 1, stamp(2), stamp(2), 2, 3, stamp(5), stamp(5.4), 4],
            [(0, 2, (1,)), (2, 5, (2, 3))],
            500,
            False,
        ),
        # A pair at the end: silence may follow.
        ([stamp(1), 1, stamp(2), stamp(2)], [(1, 2, (1,))], 200, False),
        # One stamp at the end: nothing follows.
        ([stamp(0), 1, stamp(2), stamp(2), 2, stamp(7)], [(0, 2, (1,)), (2, 7, (2,))], 3000, True),
        ([stamp(0), 1, stamp(7)], [(0, 7, (1,))], 3000, True),
        # No end at all: it lasts as long as the window.
        ([stamp(0), 1, 2], [(0, 30, (1, 2))], 3000, False),
        ([], [(0, 30, ())], 3000, False),
    ],
)
def test_windows_are_cut_at_pairs_of_stamps(
    tokens: list[int], spans: list[tuple[float, float, tuple[int, ...]]], seek: int, complete: bool
) -> None:
    found = cut(tokens, FIRST, 0, 3000)
    for span, (start, end, text) in zip(found.spans, spans, strict=True):
        assert (span.start, span.end) == pytest.approx((start, end))
        assert tuple(token for token in span.tokens if token < FIRST) == text
    assert (found.seek, found.complete) == (seek, complete)


def test_times_count_from_the_recordings_beginning() -> None:
    found = cut([stamp(1), 1, stamp(2), stamp(2)], FIRST, 4200, 1000)
    assert [(span.start, span.end) for span in found.spans] == [pytest.approx((43, 44))]
    assert found.seek == 4400


@settings(deadline=None)
@given(
    st.lists(st.one_of(st.integers(0, 99), st.integers(FIRST, FIRST + 1500)), max_size=30),
    st.integers(0, 10_000),
    st.integers(1, 3000),
)
def test_every_window_moves_on_and_loses_no_token_it_keeps(
    tokens: list[int], seek: int, size: int
) -> None:
    found = cut([FIRST, *tokens], FIRST, seek, size)
    assert seek < found.seek <= seek + size
    kept = [token for span in found.spans for token in span.tokens]
    assert kept == [FIRST, *tokens][: len(kept)]


@pytest.mark.parametrize(
    ("logprob", "ratio", "no_speech", "plausible", "silence"),
    [
        (-0.3, 1.5, 0.1, True, False),
        (-1.1, 1.5, 0.1, False, False),
        (-0.3, 2.5, 0.1, False, False),
        (-1.1, 1.5, 0.7, True, True),
        (-1.1, 2.5, 0.7, True, True),
        (-0.3, 1.5, 0.7, True, False),
        (-0.3, 2.5, 0.7, False, False),
    ],
)
def test_text_is_judged(
    logprob: float, ratio: float, no_speech: float, plausible: bool, silence: bool
) -> None:
    decoded = Decoded((), 0.0, logprob, ratio, no_speech)
    assert (decoded.is_plausible, decoded.is_silence) == (plausible, silence)


def test_a_loop_compresses_well() -> None:
    assert compression_ratio("and so on " * 40) > 2.4
    assert compression_ratio("The quick brown fox jumps over the lazy dog.") < 1.2
    assert compression_ratio("") == 0
