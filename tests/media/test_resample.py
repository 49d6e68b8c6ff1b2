from __future__ import annotations

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxsrv.media.resample import Resampler
from tests.media.sounds import Samples, chirp

RATES = [1_000, 8_000, 11_025, 16_000, 22_050, 24_000, 44_100, 48_000, 96_000, 192_000]


def streamed(samples: Samples, rate: int, wanted: int, cuts: list[int]) -> Samples:
    resampler = Resampler(wanted)
    parts = [resampler.feed(part, rate) for part in np.split(samples, sorted(cuts))]
    return np.concatenate([*parts, resampler.finish()])


@settings(max_examples=30)
@given(st.sampled_from(RATES), st.sampled_from([16_000, 24_000]), st.lists(st.integers(0, 5_000)))
def test_blocks_give_what_the_whole_gives(rate: int, wanted: int, cuts: list[int]) -> None:
    samples = chirp(5_000 / rate, rate, low=0.02 * rate, high=0.2 * rate)
    whole = soxr.resample(samples, rate, wanted, "HQ")
    parts = streamed(samples, rate, wanted, cuts)
    assert abs(len(parts) - len(whole)) <= 1
    both = min(len(parts), len(whole))
    assert np.allclose(parts[:both], whole[:both], atol=1e-4)


def test_the_rate_may_change_on_the_way() -> None:
    resampler = Resampler(16_000)
    low, high = chirp(1, 8_000), chirp(1, 44_100)
    parts = [resampler.feed(low, 8_000), resampler.feed(high, 44_100), resampler.finish()]
    heard = np.concatenate(parts)
    assert abs(len(heard) - 32_000) <= 2
    meant = chirp(1, 16_000)
    assert np.allclose(heard[200:15_800], meant[200:15_800], atol=0.01)
    assert np.allclose(heard[16_200:31_800], meant[200:15_800], atol=0.01)


@pytest.mark.parametrize("rate", [8_000, 48_000])
def test_loud_sound_stays_within_full_scale(rate: int) -> None:
    square = np.where(np.arange(rate) % 40 < 20, 1, -1).astype(np.float32)
    assert np.abs(streamed(square, rate, 16_000, [])).max() <= 1


def test_the_same_rate_is_left_alone() -> None:
    samples = chirp(0.1, 16_000)
    assert np.array_equal(streamed(samples, 16_000, 16_000, [7]), samples)
