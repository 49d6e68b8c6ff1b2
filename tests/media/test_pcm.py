from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mlxsrv.media.pcm import SCALES, cleaned, float_to_s16, to_mono

ANY = arrays.arrays(np.float32, st.integers(0, 50), elements=st.floats(width=32))


@given(ANY)
def test_no_sample_is_beyond_full_scale(samples: np.ndarray) -> None:
    clean = cleaned(samples)
    assert clean.dtype == np.float32
    assert np.isfinite(clean).all()
    assert (np.abs(clean) <= 1).all()
    fine = np.abs(samples) <= 1
    assert np.array_equal(clean[fine], samples[fine])


def test_what_is_no_number_is_silent() -> None:
    wild = np.array([np.nan, np.inf, -np.inf, 3, -3], np.float32)
    assert cleaned(wild).tolist() == [0, 0, 0, 1, -1]


@given(arrays.arrays(np.int16, 30))
def test_16_bits_come_through_unchanged(values: np.ndarray) -> None:
    assert np.array_equal(float_to_s16(to_mono(values[None], 1, "s16")), values)


@given(ANY)
def test_loud_sound_is_clipped_and_never_wraps(samples: np.ndarray) -> None:
    values = float_to_s16(samples)
    assert values.dtype == np.dtype("<i2")
    heard = np.isfinite(samples) & (np.abs(samples) > 1e-3)
    assert np.array_equal(np.sign(values[heard]), np.sign(samples[heard]))
    assert (values[heard & (samples >= 1)] == 32767).all()
    assert (values[heard & (samples <= -1)] == -32768).all()


def test_a_value_is_rounded_to_the_nearest() -> None:
    steps = np.array([0.4, 0.6, -0.4, -0.6, 32767.9], np.float32) / np.float32(32768)
    assert float_to_s16(steps).tolist() == [0, 1, 0, -1, 32767]


@pytest.mark.parametrize(
    ("kind", "silence", "half"),
    [("u8", 128, 192), ("s16", 0, 1 << 14), ("s32", 0, 1 << 30), ("flt", 0, 0.5), ("dbl", 0, 0.5)],
)
def test_every_form_of_sample_has_its_scale(kind: str, silence: float, half: float) -> None:
    types = {"u8": "u1", "s16": "i2", "s32": "i4", "flt": "f4", "dbl": "f8"}
    assert types.keys() == SCALES.keys()
    left_right = np.array([[silence, half, silence, half]], types[kind])
    assert to_mono(left_right, 1, kind).tolist() == [0, 0.5, 0, 0.5]
    assert to_mono(left_right, 2, kind).tolist() == [0.25, 0.25]
    assert to_mono(left_right.reshape(2, 2), 2, kind).tolist() == [0, 0.5]


def test_a_double_that_no_float_holds_is_clipped() -> None:
    wild = np.array([[1e300, -1e300, np.nan, 0.25]])
    assert cleaned(to_mono(wild, 1, "dbl")).tolist() == [0, 0, 0, 0.25]
