from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlxsrv.engines.scheduler import Scheduler


def drive(scheduler: Scheduler, lengths: dict[int, int], bad: dict[int, int]) -> set[int]:
    """Simulates a batch: sequence u makes `lengths[u]` tokens, one a step.

    A step raises when it is to make token `bad[u]` of a sequence u in it, however often it is
    tried. Returns the sequences that ended by the scheduler's verdict.
    """
    made = dict.fromkeys(lengths, 0)
    guilty: set[int] = set()
    batch: list[int] = []
    for _ in range(20_000):
        batch += scheduler.admit()
        if not batch:
            assert scheduler.waiting == 0
            return guilty
        if any(made[uid] == bad.get(uid) for uid in batch):
            verdict = scheduler.fail()
            assert sorted(verdict.guilty + verdict.again) == sorted(batch)
            guilty.update(verdict.guilty)
            batch = []
            continue
        for uid in list(batch):
            made[uid] += 1
            scheduler.prove(uid)
            if made[uid] == lengths[uid]:
                batch.remove(uid)
                assert scheduler.discard(uid)
    raise AssertionError("the batch never ends")


@given(
    st.dictionaries(st.integers(0, 30), st.integers(1, 12), max_size=12),
    st.dictionaries(st.integers(0, 30), st.integers(0, 14), max_size=3),
    st.integers(1, 6),
)
def test_exactly_the_bad_sequences_end_and_all_others_finish(
    lengths: dict[int, int], bad: dict[int, int], max_batch: int
) -> None:
    scheduler = Scheduler(max_batch)
    for uid in lengths:
        scheduler.add(uid)
    expected = {uid for uid, at in bad.items() if at < lengths.get(uid, 0)}
    assert drive(scheduler, lengths, bad) == expected
    assert scheduler.running == scheduler.waiting == 0


@given(st.integers(1, 5), st.integers(0, 12))
def test_first_come_first_served_up_to_the_batch_size(max_batch: int, count: int) -> None:
    scheduler = Scheduler(max_batch)
    for uid in range(count):
        scheduler.add(uid)
    assert scheduler.admit() == list(range(count))[:max_batch]
    assert scheduler.waiting == max(0, count - max_batch)
    assert scheduler.admit() == []


def test_a_fault_that_does_not_come_back_ends_nobody() -> None:
    scheduler = Scheduler(4)
    for uid in range(3):
        scheduler.add(uid)
    assert scheduler.admit() == [0, 1, 2]
    verdict = scheduler.fail()
    assert (verdict.guilty, verdict.again) == ([], [0, 1, 2])
    joined = []
    for _ in range(3):
        (uid,) = scheduler.admit()
        joined.append(uid)
        scheduler.prove(uid)
    assert joined == [0, 1, 2]


def test_newcomers_wait_while_suspects_are_tried() -> None:
    scheduler = Scheduler(4)
    scheduler.add(0)
    scheduler.admit()
    scheduler.fail()
    scheduler.add(1)
    assert scheduler.admit() == [0]
    assert scheduler.admit() == []
    scheduler.prove(0)
    assert scheduler.admit() == [1]


def test_a_cancelled_suspect_does_not_block_the_rest() -> None:
    scheduler = Scheduler(4)
    for uid in range(2):
        scheduler.add(uid)
    scheduler.admit()
    scheduler.fail()
    assert scheduler.admit() == [0]
    scheduler.discard(0)
    assert scheduler.admit() == [1]
