from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable
from itertools import pairwise
from statistics import median
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxsrv.backends.outbox import Outbox

NEVER = 3600.0
"""A pace at which nothing arrives unless the loop is woken."""

Put = tuple[float, bool]
"""Seconds to wait before, and whether the value can wait."""


def receive(puts: Iterable[Put], pace: float) -> list[tuple[int, float, float]]:
    """Puts from another thread: each value with when it was put, and when it arrived."""
    plan = list(puts)
    sent: list[float] = []
    got: list[tuple[int, float, float]] = []

    async def main() -> None:
        outbox = Outbox(asyncio.get_running_loop(), pace)
        arrived = asyncio.Event()
        home = threading.get_ident()

        def take(value: int) -> None:
            assert threading.get_ident() == home
            got.append((value, sent[value], time.perf_counter()))
            if len(got) == len(plan):
                arrived.set()

        def work() -> None:
            for value, (pause, can_wait) in enumerate(plan):
                time.sleep(pause)
                sent.append(time.perf_counter())
                outbox.put(take, value, can_wait=can_wait)

        await asyncio.gather(asyncio.to_thread(work), asyncio.wait_for(arrived.wait(), 30))

    asyncio.run(main())
    return got


def bursts(got: list[tuple[int, float, float]], apart: float) -> int:
    """How many groups of arrivals lie `apart` seconds from each other."""
    times = [arrival for _, _, arrival in got]
    return 1 + sum(after - before > apart for before, after in pairwise(times))


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.sampled_from([0.0, 0.0, 0.001, 0.006]), st.booleans()), min_size=1))
def test_everything_arrives_once_and_in_order(puts: list[Put]) -> None:
    assert [value for value, _, _ in receive(puts, 0.01)] == list(range(len(puts)))


def test_values_in_quick_succession_arrive_at_the_pace() -> None:
    got = receive([(0.002, True)] * 200, 0.05)
    assert bursts(got, 0.02) <= 20
    assert max(arrival - sent for _, sent, arrival in got) < 0.5


def test_what_cannot_wait_arrives_at_once_with_all_before_it() -> None:
    got = receive([(0.001, True)] * 20 + [(0.001, False)], NEVER)
    assert [value for value, _, _ in got] == list(range(21))


def test_seldom_values_do_not_wait() -> None:
    got = receive([(0.0, False)] + [(0.25, True)] * 5, 0.4)
    assert median(arrival - sent for _, sent, arrival in got) < 0.1


def test_it_stops_coming_when_nothing_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> int:
        loop = asyncio.get_running_loop()
        outbox = Outbox(loop, 0.01)
        later = loop.call_later
        comings: list[float] = []

        def count(delay: float, callback: Callable[..., object], *args: Any) -> object:
            if getattr(callback, "__self__", None) is outbox:
                comings.append(delay)
            return later(delay, callback, *args)

        monkeypatch.setattr(loop, "call_later", count)
        for _ in range(20):
            await asyncio.to_thread(outbox.put, lambda _: None, None, can_wait=True)
        await asyncio.sleep(0.2)
        settled = len(comings)
        await asyncio.sleep(0.2)
        assert len(comings) == settled
        return settled

    assert asyncio.run(main()) > 0


def test_a_callback_that_raises_takes_nothing_else_with_it() -> None:
    got: list[int] = []
    reported: list[object] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))
        outbox = Outbox(loop)
        done = asyncio.Event()

        def fails(_: object) -> None:
            raise ZeroDivisionError

        callbacks: list[Callable[[int], None]] = [got.append, fails, got.append]
        for value, callback in enumerate(callbacks):
            outbox.put(callback, value, can_wait=False)
        outbox.put(lambda _: done.set(), None, can_wait=False)
        await asyncio.wait_for(done.wait(), 5)

    asyncio.run(main())
    assert got == [0, 2]
    assert [type(error) for error in reported] == [ZeroDivisionError]


def test_a_closed_loop_is_not_an_error() -> None:
    loop = asyncio.new_event_loop()
    outbox = Outbox(loop)
    loop.close()
    outbox.put(lambda _: pytest.fail("nobody is there"), None, can_wait=False)
