"""The text engine on real backends: batching, cancelling, and faults at any step."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import pytest

from mlxsrv.backends import checkpoint
from mlxsrv.backends.base import TextBackend
from mlxsrv.backends.device import Device
from mlxsrv.backends.load import at_thread_exit, finished, load_text
from mlxsrv.backends.pacing import PrefillPacer
from mlxsrv.backends.select import Backend
from mlxsrv.core.errors import DeviceDead, GenerationFailed, Overloaded
from mlxsrv.core.text import Sampling, TextRequest, TokenOut
from mlxsrv.engines.memory import MemoryBudget
from mlxsrv.engines.text import TextEngine, TextStream
from mlxsrv.engines.tokenizer import TextTokenizer
from tests.tiny_models import build

T = TypeVar("T")
Fault = Callable[[list[TokenOut]], None]


@dataclass
class Bench:
    """An engine, and a place to inject faults: called with each step's tokens."""

    device: Device
    engine: TextEngine
    tokenizer: TextTokenizer
    fault: Fault | None = None

    async def text(self, request: TextRequest) -> dict[int, str]:
        return await read(self.engine.submit(request))


async def read(stream: TextStream) -> dict[int, str]:
    texts: dict[int, str] = {}
    async for deltas in stream:
        for delta in deltas:
            texts[delta.choice] = texts.get(delta.choice, "") + delta.content
    return texts


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(params=["torch", "mlx"])
def on_engine(request: pytest.FixtureRequest, folder: Path) -> Callable[..., object]:
    name: Backend = request.param

    def run(test: Callable[[Bench], Awaitable[T]], **limits: int) -> T:
        async def main() -> T:
            async with bench(name, folder, **limits) as ready:
                return await test(ready)

        return asyncio.run(main())

    return run


@asynccontextmanager
async def bench(
    name: Backend, folder: Path, *, max_batch: int = 8, max_queue: int = 64
) -> AsyncIterator[Bench]:
    device = Device(at_exit=lambda: at_thread_exit(name))
    device.start()
    found = checkpoint.read(folder)
    backend: TextBackend = await device.call(
        lambda: finished(load_text(name, found, pacer=PrefillPacer(0.05)))
    )
    tokenizer = TextTokenizer(folder)
    engine = TextEngine(
        device,
        backend,
        tokenizer.decoder,
        end_ids=frozenset(),
        context_length=512,
        max_batch=max_batch,
        max_queue=max_queue,
        memory=MemoryBudget(1_000_000_000),
        prefix_cache_bytes=10_000_000,
    )
    ready = Bench(device, engine, tokenizer)
    step = backend.step

    def injected() -> list[TokenOut]:
        outs = step()
        if ready.fault is not None:
            ready.fault(outs)
        return outs

    backend.step = injected  # type: ignore[method-assign]
    try:
        yield ready
    finally:
        await device.stop()


def requests(count: int, length: int = 24) -> list[TextRequest]:
    """Different prompts and settings, each with a seed of its own."""
    return [
        TextRequest(
            prompts=(tuple(range(10 + n, 14 + 3 * n)),),
            max_tokens=length,
            sampling=Sampling(temperature=0.0 if n % 2 else 1.0, top_p=0.9),
            seed=n,
        )
        for n in range(count)
    ]


async def gathered(ready: Bench, wanted: Sequence[TextRequest]) -> list[dict[int, str]]:
    return await asyncio.gather(*map(ready.text, wanted))


async def alone(ready: Bench, wanted: Sequence[TextRequest]) -> list[dict[int, str]]:
    return [await ready.text(request) for request in wanted]


def test_requests_at_once_run_as_one_batch_and_give_what_each_gives_alone(
    on_engine: Callable[..., None],
) -> None:
    async def test(ready: Bench) -> None:
        wanted = requests(8)
        expected = await alone(ready, wanted)
        most = 0

        def watch(_: list[TokenOut]) -> None:
            nonlocal most
            most = max(most, ready.engine.meters.running)

        ready.fault = watch
        assert await gathered(ready, wanted) == expected
        assert most == 8
        assert ready.engine.meters.running == 0

    on_engine(test)


def test_choices_of_one_request_differ_and_repeat(on_engine: Callable[..., None]) -> None:
    async def test(ready: Bench) -> None:
        request = replace(requests(1)[0], n=4, seed=7)
        first, second = await gathered(ready, [request, request])
        assert first == second
        assert sorted(first) == [0, 1, 2, 3]
        assert len(set(first.values())) == 4

    on_engine(test)


@pytest.mark.parametrize("at", [0, 1, 5])
def test_a_fault_that_comes_once_changes_nobodys_text(
    on_engine: Callable[..., None], at: int
) -> None:
    async def test(ready: Bench) -> None:
        wanted = requests(4)
        expected = await alone(ready, wanted)
        steps = 0

        def fault(_: list[TokenOut]) -> None:
            nonlocal steps
            steps += 1
            if steps == at + 1:
                raise RuntimeError("injected")

        ready.fault = fault
        assert await gathered(ready, wanted) == expected

    on_engine(test)


@pytest.mark.parametrize("token", [0, 1, 9])
def test_a_sequence_that_always_fails_fails_alone(
    on_engine: Callable[..., None], token: int
) -> None:
    """The step that makes its nth token raises however often it is tried."""

    async def test(ready: Bench) -> None:
        wanted = requests(4)
        expected = await alone(ready, wanted)
        bad = ready.engine.submit(replace(wanted[2], seed=99))
        uid = len(wanted)  # the sequences before it were those run alone
        made = 0

        def fault(outs: list[TokenOut]) -> None:
            nonlocal made
            if any(out.uid == uid for out in outs):
                if made == token:
                    raise RuntimeError("injected")
                made += 1

        ready.fault = fault
        good = asyncio.gather(*map(ready.text, wanted))
        with pytest.raises(GenerationFailed):
            await read(bad)
        assert await good == expected
        assert ready.engine.meters.running == ready.engine.meters.queue_length == 0

    on_engine(test)


def test_cancelling_frees_the_slot_and_leaves_the_others(on_engine: Callable[..., None]) -> None:
    async def test(ready: Bench) -> None:
        wanted = requests(3)
        expected = await alone(ready, wanted)
        long = ready.engine.submit(replace(requests(1, 400)[0], n=3))
        others = asyncio.gather(*map(ready.text, wanted))
        async for _ in long:
            break
        long.cancel()
        assert await others == expected
        assert ready.engine.meters.running == 0

    on_engine(test)


def test_what_does_not_fit_the_batch_waits_and_what_does_not_fit_the_queue_is_refused(
    on_engine: Callable[..., None],
) -> None:
    async def test(ready: Bench) -> None:
        streams = [ready.engine.submit(request) for request in requests(5)]
        with pytest.raises(Overloaded):
            ready.engine.submit(requests(1)[0])
        texts = await asyncio.gather(*map(read, streams))
        assert all(texts)
        assert await ready.text(requests(1)[0])

    on_engine(test, max_batch=2, max_queue=3)


def test_a_dead_device_fails_every_request_at_once(on_engine: Callable[..., None]) -> None:
    async def test(ready: Bench) -> None:
        def fault(_: list[TokenOut]) -> None:
            raise SystemExit("the driver is gone")

        streams = [ready.engine.submit(request) for request in requests(4)]
        ready.fault = fault
        for stream in streams:
            with pytest.raises(DeviceDead):
                await read(stream)
        assert not ready.device.alive
        with pytest.raises(DeviceDead):
            ready.engine.submit(requests(1)[0])

    on_engine(test)


def test_a_stop_string_ends_a_choice_where_it_begins(on_engine: Callable[..., None]) -> None:
    async def test(ready: Bench) -> None:
        request = requests(2)[1]
        text = (await ready.text(request))[0]
        stop = text[6:9]
        stopped = (await ready.text(replace(request, stop=(stop,))))[0]
        assert stopped == text[: text.index(stop)]

    on_engine(test)


def test_what_was_computed_before_is_reused_and_changes_nothing(
    on_engine: Callable[..., None],
) -> None:
    async def test(ready: Bench) -> None:
        prompt = tuple(range(10, 110))
        request = TextRequest((prompt,), 20, Sampling(temperature=0.8), n=2, seed=5)
        stream = ready.engine.submit(request)
        expected = await read(stream)
        assert stream.cached_tokens == 0
        assert ready.engine.prefix_cache_bytes > 0
        again = ready.engine.submit(request)
        assert await read(again) == expected
        assert again.cached_tokens == len(prompt) - 1
        branch = ready.engine.submit(replace(request, prompts=((*prompt[:60], 7, 8, 9),)))
        await read(branch)
        assert branch.cached_tokens == 60

    on_engine(test)
