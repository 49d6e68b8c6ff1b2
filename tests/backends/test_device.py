from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest

from mlxsrv.backends.device import Device
from mlxsrv.core.errors import DeviceDead

T = TypeVar("T")


@asynccontextmanager
async def running() -> AsyncIterator[Device]:
    device = Device()
    device.start()
    try:
        yield device
    finally:
        await device.stop()


def on_device(test: Callable[[Device], Awaitable[T]]) -> T:
    async def main() -> T:
        async with running() as device:
            return await test(device)

    return asyncio.run(main())


def count_to(end: int, pause: float = 0.0) -> Iterator[int]:
    for number in range(end):
        time.sleep(pause)
        yield number


def test_all_work_runs_on_one_thread_that_is_not_the_loops() -> None:
    async def test(device: Device) -> set[int]:
        calls = (device.call(threading.get_ident) for _ in range(5))
        return set(await asyncio.gather(*calls))

    threads = on_device(test)
    assert len(threads) == 1
    assert threads != {threading.get_ident()}


def test_a_failing_job_ends_alone() -> None:
    def fails() -> Iterator[int]:
        yield 0
        raise ZeroDivisionError

    async def take(device: Device, make: Callable[[], Iterator[int]]) -> list[int]:
        return [item async for item in device.stream("test", make)]

    async def test(device: Device) -> None:
        bad = asyncio.create_task(take(device, fails))
        good = asyncio.create_task(take(device, lambda: count_to(20)))
        with pytest.raises(ZeroDivisionError):
            await bad
        assert await good == list(range(20))
        assert device.alive

    on_device(test)


def test_long_jobs_take_turns() -> None:
    async def test(device: Device) -> list[str]:
        order: list[str] = []

        async def take(name: str) -> None:
            async for _ in device.stream(name, lambda: count_to(10, 0.002)):
                order.append(name)

        await asyncio.gather(take("a"), take("b"))
        return order

    order = on_device(test)
    assert 3 <= order[:10].count("a") <= 7


def test_leaving_a_stream_closes_its_iterator() -> None:
    closed = threading.Event()

    def endless() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    async def test(device: Device) -> bool:
        stream = device.stream("test", endless)
        async for _ in stream:
            break
        await stream.aclose()
        return await asyncio.to_thread(closed.wait, 5)

    assert on_device(test)


def test_a_dead_thread_fails_what_waits_and_what_comes_later() -> None:
    def dies() -> Iterator[int]:
        yield 1
        raise SystemExit("the driver is gone")

    async def test(device: Device) -> None:
        async def take(make: Callable[[], Iterator[int]]) -> None:
            async for _ in device.stream("test", make):
                pass

        waiting = asyncio.create_task(take(lambda: count_to(10_000, 0.001)))
        dying = asyncio.create_task(take(dies))
        for task in (waiting, dying):
            with pytest.raises((DeviceDead, SystemExit)):
                await task
        assert not device.alive
        with pytest.raises(DeviceDead):
            await device.call(lambda: 1)

    on_device(test)


def test_slices_are_measured_by_kind() -> None:
    async def test(device: Device) -> None:
        async for _ in device.stream("image", lambda: count_to(3)):
            pass
        await device.call(lambda: None, kind="load")
        counts = {kind: sum(h.counts) for kind, h in device.meters.slices.items()}
        assert counts == {"image": 3, "load": 1}

    on_device(test)


def test_items_that_can_wait_seldom_wake_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(device: Device) -> int:
        loop = asyncio.get_running_loop()
        wake, wakes = loop.call_soon_threadsafe, itertools.count()
        got: list[int] = []

        def counted(callback: Callable[..., object], *args: Any) -> object:
            next(wakes)
            return wake(callback, *args)

        monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
        ended = asyncio.Event()
        device.submit(
            "test",
            lambda: count_to(100, 0.001),
            on_item=got.append,
            on_end=lambda error: ended.set(),
            can_wait=lambda item: item < 99,
        )
        await ended.wait()
        assert got == list(range(100))
        return next(wakes)

    assert on_device(test) < 50
