"""How a picture's latents become tokens, and what a mask keeps of them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mlxsrv.backends.flux_layout import kept, packed, picture_places, unpacked

SIDES = st.integers(1, 6).map(lambda half: 2 * half)


@given(channels=st.integers(1, 4), height=SIDES, width=SIDES)
def test_tokens_hold_all_latents_in_rows(channels: int, height: int, width: int) -> None:
    latents = np.arange(channels * height * width).reshape(channels, height, width)
    tokens = packed(latents)
    assert tokens.shape == (1, height * width // 4, 4 * channels)
    assert (unpacked(tokens, height, width) == latents).all()
    assert picture_places(height, width).shape == (tokens.shape[1], 3)


@given(row=st.integers(0, 31), column=st.integers(0, 63), factor=st.sampled_from([4, 8, 16]))
def test_the_thinnest_stroke_is_drawn_anew(row: int, column: int, factor: int) -> None:
    mask = np.zeros((32, 64), np.float32)
    mask[row, column] = 1
    stays = kept(mask, factor)
    assert stays.shape == (32 // factor, 64 // factor)
    assert np.argwhere(~stays).tolist() == [[row // factor, column // factor]]
