"""The encoder engine's scheduling, on the real device thread with a backend made of arithmetic."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mlxsrv.backends.base import ModelFacts
from mlxsrv.backends.device import Device
from mlxsrv.core.encoding import TokenRow
from mlxsrv.core.errors import (
    DeviceDead,
    GenerationFailed,
    InvalidRequest,
    Overloaded,
    ShuttingDown,
)
from mlxsrv.engines.encoder import MAX_WAITING_TOKENS, EncoderEngine
from mlxsrv.engines.encoder_task import EncoderTask

T = TypeVar("T")

BAD = 999


class Arithmetic:
    """Answers a row with its length and its sum; what holds BAD fails its whole batch."""

    facts = ModelFacts(backend="torch", vocab_size=1000, memory_bytes=0, dtype="float32")
    dimensions = 2
    packs = False

    def __init__(self) -> None:
        self.batches: list[list[TokenRow]] = []
        self.error: BaseException = ValueError("a bad row")
        self.faults_left = 1_000_000
        self.started = threading.Event()
        self.gate = threading.Event()
        self.gate.set()
        self.closed = False

    def embed(self, rows: Sequence[TokenRow]) -> NDArray[np.float32]:
        self.started.set()
        self.gate.wait()
        self.batches.append(list(rows))
        if self.faults_left and any(BAD in row.ids for row in rows):
            self.faults_left -= 1
            raise self.error
        return np.array([(len(row.ids), sum(row.ids)) for row in rows], np.float32)

    def close(self) -> None:
        self.closed = True


class Bench:
    def __init__(self, device: Device, max_queue: int) -> None:
        self.device = device
        self.backend = Arithmetic()
        self.engine = EncoderEngine(
            device,
            self.backend,
            self.backend.embed,
            kind="embedding",
            slice_seconds=0.05,
            max_queue=max_queue,
        )


def run(test: Callable[[Bench], Awaitable[T]], max_queue: int = 256) -> T:
    async def main() -> T:
        async with bench(max_queue) as ready:
            return await test(ready)

    return asyncio.run(main())


@asynccontextmanager
async def bench(max_queue: int) -> AsyncIterator[Bench]:
    device = Device()
    device.start()
    ready = Bench(device, max_queue)
    try:
        yield ready
    finally:
        ready.backend.gate.set()
        await device.stop()


def rows_of(lengths: Sequence[int], first: int = 1) -> list[TokenRow]:
    return [TokenRow((first, *range(length - 1))) for length in lengths]


def answers(rows: Sequence[TokenRow]) -> list[list[int]]:
    return [[len(row.ids), sum(row.ids)] for row in rows]


async def result(task: EncoderTask) -> list[list[int]]:
    values: list[list[int]] = (await task.result()).astype(int).tolist()
    return values


@given(st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=30), min_size=1, max_size=10))
def test_every_request_gets_its_own_results_in_order(requests: list[list[int]]) -> None:
    async def test(ready: Bench) -> None:
        wanted = [rows_of(lengths, first=n) for n, lengths in enumerate(requests)]
        tasks = [ready.engine.submit(rows) for rows in wanted]
        assert await asyncio.gather(*map(result, tasks)) == [answers(rows) for rows in wanted]

    run(test)


def test_requests_that_wait_together_share_batches() -> None:
    async def test(ready: Bench) -> None:
        ready.backend.gate.clear()
        first = ready.engine.submit(rows_of([5]))
        others = [ready.engine.submit(rows_of([9], first=n)) for n in range(40)]
        ready.backend.gate.set()
        await asyncio.gather(first.result(), *(task.result() for task in others))
        meters = ready.engine.meters
        assert meters.rows == 41
        assert meters.batches <= 6
        assert meters.tokens == 5 + 40 * 9
        assert meters.padding_tokens <= 4
        assert meters.queue_length == 0

    run(test)


def test_equal_rows_of_a_request_are_computed_once() -> None:
    async def test(ready: Bench) -> None:
        rows = rows_of([3, 7, 3, 3, 7])
        assert await result(ready.engine.submit(rows)) == answers(rows)
        assert sum(map(len, ready.backend.batches)) == 2

    run(test)


@pytest.mark.parametrize("place", [0, 17, 39])
def test_only_the_request_with_the_bad_row_fails(place: int) -> None:
    async def test(ready: Bench) -> None:
        wanted = [rows_of([8, 8, 8], first=n) for n in range(40)]
        bad = [*wanted[place], TokenRow((BAD, *range(7)))]
        ready.backend.gate.clear()
        tasks = [ready.engine.submit(bad if n == place else rows) for n, rows in enumerate(wanted)]
        ready.backend.gate.set()
        done = await asyncio.gather(*map(result, tasks), return_exceptions=True)
        failure = done.pop(place)
        assert isinstance(failure, GenerationFailed)
        assert "bad row" not in failure.message
        assert done == [answers(rows) for n, rows in enumerate(wanted) if n != place]
        assert await result(ready.engine.submit(wanted[0])) == answers(wanted[0])

    run(test)


def test_a_fault_that_comes_once_harms_nobody() -> None:
    async def test(ready: Bench) -> None:
        ready.backend.faults_left = 1
        rows = [TokenRow((BAD,)), *rows_of([4, 5, 6])]
        assert await result(ready.engine.submit(rows)) == answers(rows)

    run(test)


def test_an_error_meant_for_the_caller_reaches_it() -> None:
    async def test(ready: Bench) -> None:
        ready.backend.error = InvalidRequest("no such token", param="input")
        with pytest.raises(InvalidRequest, match="no such token"):
            await result(ready.engine.submit([TokenRow((BAD,))]))

    run(test)


def test_the_rows_of_a_cancelled_request_leave_before_the_next_batch() -> None:
    async def test(ready: Bench) -> None:
        ready.backend.gate.clear()
        blocking = ready.engine.submit(rows_of([5]))
        large = ready.engine.submit(rows_of(range(1, 600), first=7))
        small = ready.engine.submit(rows_of([6], first=9))
        large.cancel()
        large.cancel()
        ready.backend.gate.set()
        await asyncio.gather(blocking.result(), small.result())
        assert sum(map(len, ready.backend.batches)) == 2
        assert ready.engine.meters.queue_length == 0

    run(test)


def test_cancelling_in_the_middle_stops_the_work() -> None:
    async def test(ready: Bench) -> None:
        large = ready.engine.submit(rows_of([500] * 100 + list(range(1, 500))))
        await asyncio.to_thread(ready.backend.started.wait)
        ready.backend.gate.clear()
        large.cancel()
        ready.backend.gate.set()
        assert await result(ready.engine.submit(rows_of([3]))) == answers(rows_of([3]))
        assert ready.engine.meters.queue_length == 0
        assert sum(map(len, ready.backend.batches)) < len(large.rows)

    run(test)


def test_a_full_queue_refuses_and_then_takes_again() -> None:
    async def test(ready: Bench) -> None:
        ready.backend.gate.clear()
        tasks = [ready.engine.submit(rows_of([4], first=n)) for n in range(3)]
        with pytest.raises(Overloaded, match="2 requests") as caught:
            ready.engine.submit(rows_of([4]))
        assert caught.value.retry_after is not None
        tasks[0].cancel()
        tasks.append(ready.engine.submit(rows_of([4])))
        ready.backend.gate.set()
        await asyncio.gather(*(task.result() for task in tasks[1:]))
        await ready.engine.submit(rows_of([4])).result()

    run(test, max_queue=2)


def test_a_huge_request_runs_alone_but_nothing_large_waits_behind_it() -> None:
    async def test(ready: Bench) -> None:
        ready.backend.gate.clear()
        huge = ready.engine.submit([TokenRow((1,) * (MAX_WAITING_TOKENS + 1))])
        with pytest.raises(Overloaded, match="tokens are waiting"):
            ready.engine.submit(rows_of([2]))
        huge.cancel()

    run(test)


def test_everybody_is_told_when_the_server_stops() -> None:
    async def test(ready: Bench) -> None:
        ready.backend.gate.clear()
        tasks = [ready.engine.submit(rows_of([4], first=n)) for n in range(5)]
        ready.engine.cancel_all(ShuttingDown("stopping"))
        ready.backend.gate.set()
        for task in tasks:
            with pytest.raises(ShuttingDown):
                await task.result()
        await ready.engine.close()
        assert ready.backend.closed

    run(test)


def test_a_dead_device_fails_every_request_at_once() -> None:
    async def test(ready: Bench) -> None:
        ready.backend.error = SystemExit("the driver is gone")
        ready.backend.gate.clear()
        tasks = [ready.engine.submit([TokenRow((BAD,))]), ready.engine.submit(rows_of([3]))]
        ready.backend.gate.set()
        for task in tasks:
            with pytest.raises(DeviceDead):
                await task.result()
            task.cancel()
        with pytest.raises(DeviceDead):
            ready.engine.submit(rows_of([3]))

    run(test)


def test_an_idle_engine_leaves_the_device_alone() -> None:
    async def test(ready: Bench) -> None:
        await ready.engine.submit(rows_of([3])).result()
        await asyncio.sleep(0.05)
        before = ready.device.meters.slices["embedding"].cumulative()
        await asyncio.sleep(0.05)
        assert ready.device.meters.slices["embedding"].cumulative() == before

    run(test)
