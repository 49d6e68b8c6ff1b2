"""The budget: what is held never exceeds it, and kept prefixes give way."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxsrv.engines.cache_room import CacheRoom
from mlxsrv.engines.memory import MemoryBudget, Use


@given(st.lists(st.tuples(st.sampled_from(["weights", "cache"]), st.integers(0, 60))))
def test_never_more_is_held_than_the_limit(wishes: list[tuple[Use, int]]) -> None:
    budget = MemoryBudget(100)
    held: list[tuple[Use, int]] = []
    for use, nbytes in wishes:
        fits = sum(n for _, n in held) + nbytes <= 100
        assert budget.take(use, nbytes) is fits
        held += [(use, nbytes)] if fits else []
        assert budget.available == 100 - sum(n for _, n in held)
    for use, nbytes in held:
        budget.release(use, nbytes)
    assert not any(budget.held().values())


@given(st.lists(st.integers(1, 40), max_size=8), st.integers(0, 150))
def test_reclaiming_takes_from_one_after_the_other_no_more_than_needed(
    kept: list[int], wish: int
) -> None:
    budget = MemoryBudget(max(100, sum(kept)))
    left = dict(enumerate(kept))

    def reclaimer(place: int) -> None:
        budget.change("prefix_cache", kept[place])

        def give(nbytes: int) -> int:
            given_back, left[place] = left[place], 0
            budget.release("prefix_cache", given_back)
            return given_back

        budget.on_reclaim(give)

    for place in range(len(kept)):
        reclaimer(place)
    before = budget.available
    assert budget.reclaim(wish) == budget.available - before
    assert budget.available >= min(wish, budget.limit)
    asked = [place for place, nbytes in left.items() if nbytes == 0]
    assert asked == list(range(len(asked)))
    if asked:
        assert before + sum(kept[: len(asked) - 1]) < wish


def test_a_refusal_names_the_numbers() -> None:
    budget = MemoryBudget(3_000_000_000)
    budget.take("weights", 2_500_000_000)
    message = budget.refusal("the model x", 1_200_000_000).message
    assert message == (
        "the model x needs 1.2 GB of memory, and 500.0 MB of the budget of 3.0 GB is free "
        "(weights 2.5 GB)"
    )


def test_those_who_wait_hear_of_every_release_until_they_leave() -> None:
    budget = MemoryBudget(10)
    heard: list[int] = []
    leave = budget.on_release(lambda: heard.append(budget.available))
    budget.take("cache", 10)
    budget.release("cache", 4)
    leave()
    budget.release("cache", 6)
    assert heard == [4]


def test_threads_together_hold_no_more_than_the_limit() -> None:
    budget = MemoryBudget(1000)
    taken: list[int] = []

    def take() -> None:
        for _ in range(2000):
            if budget.take("cache", 1):
                taken.append(1)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 1000
    assert budget.available == 0


def test_a_sequence_reserves_once_and_reports_once_that_room_is_short() -> None:
    budget = MemoryBudget(100)
    short: list[int] = []
    room = CacheRoom(budget, lambda tokens: tokens * 10, short.append)
    assert room.take(1, 6)
    assert room.take(1, 6)
    assert budget.available == 40
    assert not room.take(2, 6)
    assert not room.take(2, 6)
    assert short == [60]
    assert room.waits
    room.release(1)
    assert not room.waits
    assert room.take(2, 6)
    assert not room.waits


def test_the_next_in_line_reports_too_when_the_first_was_refused() -> None:
    budget = MemoryBudget(100)
    short: list[int] = []
    room = CacheRoom(budget, lambda tokens: tokens * 10, short.append)
    budget.take("weights", 80)
    assert not room.take(1, 5)
    room.release(1)
    assert not room.take(2, 4)
    assert short == [50, 40]


def test_kept_prefixes_give_way_to_a_running_sequence() -> None:
    budget = MemoryBudget(100)
    budget.change("prefix_cache", 90)

    def give(nbytes: int) -> int:
        budget.release("prefix_cache", nbytes)
        return nbytes

    budget.on_reclaim(give)
    room = CacheRoom(budget, lambda tokens: tokens, lambda nbytes: pytest.fail("room was short"))
    assert room.take(1, 50)
    assert budget.held()["prefix_cache"] == 50
