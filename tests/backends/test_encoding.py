"""Padding, and how much each token counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxsrv.backends.encoding import Pooling, pad, require_finite, token_weights
from mlxsrv.core.encoding import TokenRow
from mlxsrv.core.errors import GenerationFailed

SUMS_TO_ONE = [Pooling.CLS, Pooling.LAST_TOKEN, Pooling.MEAN, Pooling.WEIGHTED_MEAN]

rows = st.lists(
    st.lists(st.integers(1, 30_000), min_size=1, max_size=20).flatmap(
        lambda ids: st.builds(
            TokenRow,
            st.just(tuple(ids)),
            st.sampled_from([(), (0,) * len(ids), (1,) * len(ids)]),
            st.integers(0, len(ids) - 1),
        )
    ),
    min_size=1,
    max_size=8,
)


@given(rows)
def test_a_batch_holds_its_rows(given_rows: list[TokenRow]) -> None:
    batch = pad(given_rows)
    real = batch.real if batch.real is not None else np.ones(batch.ids.shape, bool)
    for place, row in enumerate(given_rows):
        assert tuple(batch.ids[place][real[place]]) == row.ids
        assert not batch.ids[place][~real[place]].any()
        types = batch.types[place][real[place]] if batch.types is not None else ()
        assert tuple(types) == (row.types or (0,) * len(types))
    assert batch.ids.shape[1] == max(len(row.ids) for row in given_rows)


@given(rows, st.sampled_from(list(Pooling)))
def test_tokens_left_out_and_padding_count_nothing(
    given_rows: list[TokenRow], mode: Pooling
) -> None:
    weights = token_weights([mode], pad(given_rows))[:, 0]
    for row, own in zip(given_rows, weights, strict=True):
        assert not own[: row.unpooled].any()
        assert not own[len(row.ids) :].any()
        assert (own >= 0).all()
        assert own.any()
        if mode in SUMS_TO_ONE:
            assert own.sum() == pytest.approx(1, rel=1e-5)


def test_weights_in_numbers() -> None:
    batch = pad([TokenRow((5, 6, 7), unpooled=1), TokenRow((5,))])
    expected: dict[Pooling, list[list[float]]] = {
        Pooling.CLS: [[0, 1, 0], [1, 0, 0]],
        Pooling.LAST_TOKEN: [[0, 0, 1], [1, 0, 0]],
        Pooling.MAX: [[0, 1, 1], [1, 0, 0]],
        Pooling.MEAN: [[0, 0.5, 0.5], [1, 0, 0]],
        Pooling.MEAN_SQRT_LENGTH: [[0, 0.5**0.5, 0.5**0.5], [1, 0, 0]],
        Pooling.WEIGHTED_MEAN: [[0, 0.4, 0.6], [1, 0, 0]],
    }
    found = token_weights(list(expected), batch)
    np.testing.assert_allclose(found, np.stack(list(expected.values()), axis=1), rtol=1e-6)


def test_a_row_of_which_nothing_is_pooled_has_no_weight() -> None:
    batch = pad([TokenRow((5, 6), unpooled=2)])
    assert not token_weights(list(Pooling), batch).any()


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_is_refused(odd: float) -> None:
    with pytest.raises(GenerationFailed):
        require_finite(np.array([[1.0, odd]], np.float32))
