from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxsrv.engines.batch_cost import BatchCost, row_cost
from mlxsrv.engines.length_batch import MAX_ROWS, OLDEST_TURN, LengthBatcher, Row

LENGTHS = st.lists(st.integers(1, 600), min_size=1, max_size=60)
REQUESTS = st.lists(LENGTHS, min_size=1, max_size=8)


def filled(requests: Sequence[Sequence[int]], max_tokens: int = 2048) -> LengthBatcher:
    batcher = LengthBatcher(max_tokens=max_tokens)
    for number, lengths in enumerate(requests):
        batcher.add(number, lengths)
    return batcher


def emptied(batcher: LengthBatcher, room: float, overhead: float) -> list[list[Row]]:
    batches = []
    while batcher.requests:
        batches.append(batcher.next(room, overhead))
    return batches


def work(batch: Sequence[Row]) -> float:
    return len(batch) * row_cost(batch[0].length)


def padding(batches: Sequence[Sequence[Row]]) -> float:
    """Tokens computed for nothing, as a part of those that were asked for."""
    padded = sum(len(batch) * batch[0].length for batch in batches)
    asked = sum(row.length for batch in batches for row in batch)
    return padded / asked - 1


@given(REQUESTS, st.floats(0, 5000), st.floats(4, 1000), st.integers(1, 3000))
def test_every_row_runs_once_within_the_bounds(
    requests: list[list[int]], room: float, overhead: float, max_tokens: int
) -> None:
    batches = emptied(filled(requests, max_tokens), room, overhead)
    ran = sorted((row.request, row.place, row.length) for batch in batches for row in batch)
    assert ran == [
        (number, place, length)
        for number, lengths in enumerate(requests)
        for place, length in enumerate(lengths)
    ]
    for batch in batches:
        assert batch == sorted(batch, reverse=True)
        if len(batch) > 1:
            assert len(batch) <= MAX_ROWS
            assert work(batch) <= room
            assert len(batch) * batch[0].length <= max_tokens


@given(REQUESTS, st.floats(0, 5000), st.integers(1, 3000))
def test_packed_rows_fill_the_room_and_none_is_lost(
    requests: list[list[int]], room: float, max_tokens: int
) -> None:
    batcher = LengthBatcher(max_tokens=max_tokens, packs=True)
    for number, lengths in enumerate(requests):
        batcher.add(number, lengths)
    batches = emptied(batcher, room, overhead=32)
    ran = sorted((row.request, row.place) for batch in batches for row in batch)
    assert ran == [
        (n, place) for n, lengths in enumerate(requests) for place in range(len(lengths))
    ]
    for batch in batches:
        assert batch == sorted(batch, reverse=True)
        assert batcher.padding(batch) == 0
        if len(batch) > 1:
            assert batcher.work(batch) == sum(row_cost(row.length) for row in batch) <= room
            assert len(batch) <= MAX_ROWS
            assert len(batch) * batch[0].length <= max_tokens


def test_a_newcomer_is_packed_before_the_rest_of_a_large_request() -> None:
    batcher = LengthBatcher(max_tokens=100_000, packs=True)
    batcher.add(0, [50] * 1000)
    batcher.next(room=2000, overhead=32)
    batcher.add(1, [7])
    batch = batcher.next(room=2000, overhead=32)
    assert Row(7, 1, 0) in batch
    assert len(batch) > 30  # the large one fills what is left


@given(REQUESTS, st.floats(100, 5000), st.floats(4, 1000))
def test_batching_hardly_ever_costs_more_than_running_each_row_alone(
    requests: list[list[int]], room: float, overhead: float
) -> None:
    batches = emptied(filled(requests), room, overhead)
    alone = sum(overhead + row_cost(length) for lengths in requests for length in lengths)
    assert sum(overhead + work(batch) for batch in batches) <= alone * 1.05


@pytest.mark.parametrize("seed", range(4))
def test_rows_of_a_large_request_are_hardly_padded(seed: int) -> None:
    rng = random.Random(seed)
    lengths = [rng.randint(5, 300) for _ in range(1000)]
    batches = emptied(filled([lengths]), room=2000, overhead=32)
    assert padding(batches) < 0.03
    assert len(batches) < 150


@pytest.mark.parametrize("seed", range(4))
def test_single_rows_of_many_requests_share_batches(seed: int) -> None:
    """A device with a large overhead is given larger batches, and so more padding."""
    rng = random.Random(seed)
    requests = [[rng.randint(5, 60)] for _ in range(200)]
    thrifty = emptied(filled(requests), room=2000, overhead=16)
    quick = emptied(filled(requests), room=2000, overhead=600)
    assert padding(thrifty) < 0.06
    assert padding(quick) < 0.4
    assert len(quick) < len(thrifty) < 40


def test_equal_rows_fill_the_batch_around_the_oldest() -> None:
    batches = emptied(filled([[20]] * 33), room=16 * row_cost(20), overhead=32)
    assert [len(batch) for batch in batches] == [16, 16, 1]


@given(st.integers(1, 600), st.integers(0, 20))
def test_a_short_request_behind_a_large_one_is_next(length: int, before: int) -> None:
    batcher = filled([list(range(1, 601))])
    for _ in range(before):
        batcher.next(500, 32)
    batcher.add(1, [length])
    soon = batcher.next(500, 32) + batcher.next(500, 32)
    assert any(row.request == 1 for row in soon)


@given(LENGTHS, st.integers(0, 2**32), st.integers(1, 4))
def test_nobody_waits_for_ever_behind_newcomers(
    lengths: list[int], seed: int, newcomers: int
) -> None:
    rng = random.Random(seed)
    batcher = filled([lengths])
    left, number = len(lengths), 0
    for _ in range(OLDEST_TURN * len(lengths)):
        for _ in range(newcomers):
            number += 1
            batcher.add(number, [rng.randint(1, 600)])
        left -= sum(row.request == 0 for row in batcher.next(300, 32))
    assert left == 0


@given(REQUESTS, st.sets(st.integers(0, 7)), st.integers(0, 5))
def test_a_request_that_is_discarded_does_not_come_again(
    requests: list[list[int]], gone: set[int], before: int
) -> None:
    batcher = filled(requests)
    ran = []
    for _ in range(before):
        if batcher.requests:
            ran += batcher.next(500, 32)
    for number in gone:
        batcher.discard(number)
    rest = [row for batch in emptied(batcher, 500, 32) for row in batch]
    assert not {row.request for row in rest} & gone
    assert batcher.rows == 0
    kept = {number for number in range(len(requests)) if number not in gone}
    assert kept <= {row.request for row in ran + rest}


@given(st.floats(1e-6, 1e-2), st.floats(8, 800), st.integers(0, 2**32))
def test_the_cost_of_a_batch_is_learnt(speed: float, overhead: float, seed: int) -> None:
    rng = random.Random(seed)
    cost = BatchCost()
    for _ in range(301):
        rows, length = rng.randint(1, 40), rng.randint(4, 100)
        done = rows * row_cost(length)
        cost.observe(done, speed * (overhead + done))
    assert cost.overhead == pytest.approx(overhead, rel=0.2)
    assert cost.room(5000 * speed) == pytest.approx(5000 - overhead, rel=0.2)
    assert cost.room(0) == cost.overhead


@pytest.mark.parametrize("length", [8, 100])
def test_batches_grow_where_a_slice_takes_long_whatever_is_in_it(length: int) -> None:
    """Other programs keep the processors busy, say: smaller batches would not end sooner."""
    cost, batcher = BatchCost(), filled([[length] * 1000])
    batches = 0
    while batcher.requests:
        batch = batcher.next(cost.room(0.05), cost.overhead)
        cost.observe(work(batch), 0.3 + 1e-5 * work(batch))
        batches += 1
    assert batches < 100


def test_one_slow_slice_is_no_lasting_lesson() -> None:
    cost = BatchCost()
    for _ in range(50):
        cost.observe(200, 0.02)
    before = cost.room(0.05)
    cost.observe(200, 30.0)
    assert cost.room(0.05) > 0.8 * before


def test_batches_of_one_size_leave_the_overhead_alone() -> None:
    cost = BatchCost()
    guess = cost.overhead
    for _ in range(100):
        cost.observe(8, 0.001)
    assert cost.overhead == guess
    assert cost.room(0.05) > 0
