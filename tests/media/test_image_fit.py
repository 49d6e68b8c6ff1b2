from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mlxsrv.media.image_fit import cover, cover_mask, nearest_size, restored
from tests.media.pictures import quarters

sides = st.integers(1, 60_000)


@given(width=sides, height=sides, most_side=st.integers(16, 5000), area=st.integers(256, 5_000_000))
def test_sizes_stay_within_their_bounds(width: int, height: int, most_side: int, area: int) -> None:
    wide, high = nearest_size((width, height), multiple=16, most_pixels=area, most_side=most_side)
    assert wide % 16 == high % 16 == 0
    assert 16 <= min(wide, high) <= max(wide, high) <= most_side
    assert wide * high <= area


@given(width=st.integers(200, 2000), height=st.integers(200, 2000))
def test_sizes_that_fit_are_kept_but_for_the_multiple(width: int, height: int) -> None:
    found = nearest_size((width, height), multiple=16, most_pixels=4_100_000, most_side=4096)
    assert abs(found[0] - width) <= 8
    assert abs(found[1] - height) <= 8


def test_large_sizes_keep_their_shape() -> None:
    found = nearest_size((4000, 3000), multiple=16, most_pixels=1024 * 1024, most_side=4096)
    assert found == (1184, 880)
    found = nearest_size((4000, 100), multiple=16, most_pixels=1024 * 1024, most_side=1024)
    assert found == (1024, 32)


def test_the_middle_is_kept() -> None:
    wide = quarters(96, 32)
    wide[:, :20] = wide[:, -20:] = 255
    np.testing.assert_array_equal(cover(wide, (32, 32)), quarters(32, 32))
    high = quarters(32, 96)
    high[:30] = high[-30:] = 255
    np.testing.assert_array_equal(cover(high, (32, 32)), quarters(32, 32))
    assert cover(quarters(), (48, 32)) is not None


def test_pictures_and_masks_are_cut_alike() -> None:
    mask = np.zeros((100, 300), np.float32)
    mask[:50, 150:] = 1
    pixels = np.repeat((255 * mask).astype(np.uint8)[..., None], 3, 2)
    for size in ((64, 64), (640, 80), (16, 160), (300, 100)):
        small = cover_mask(mask, size)
        assert small.shape == (size[1], size[0])
        assert small.dtype == np.float32
        assert np.abs(small - cover(pixels, size)[..., 0] / 255).mean() < 0.05
        assert small[0, -1] == 1
        assert small[-1, 0] == 0


@given(
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    target=st.tuples(st.integers(1, 90), st.integers(1, 90)),
)
def test_any_size_becomes_any_other(size: tuple[int, int], target: tuple[int, int]) -> None:
    pixels = np.full((size[1], size[0], 3), 77, np.uint8)
    assert (cover(pixels, target) == 77).all()
    assert cover(pixels, target).shape == (target[1], target[0], 3)
    assert (cover_mask(np.ones((size[1], size[0]), np.float32), target) == 1).all()


def test_what_a_mask_keeps_is_put_back_to_the_last_bit() -> None:
    rng = np.random.default_rng(0)
    made, before = rng.integers(0, 256, (2, 16, 24, 3), np.uint8)
    mask = np.zeros((16, 24), np.float32)
    mask[:, 8:16], mask[:, 16:] = 0.5, 1
    found = restored(made, before, mask)
    np.testing.assert_array_equal(found[:, :8], before[:, :8])
    np.testing.assert_array_equal(found[:, 16:], made[:, 16:])
    between = (made.astype(float) + before) / 2
    np.testing.assert_allclose(found[:, 8:16], between[:, 8:16], atol=1.01)
