"""Pictures through the image engine, on both backends: company, memory and failures."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlxsrv.backends import checkpoint, load
from mlxsrv.backends.base import ImageBackend
from mlxsrv.backends.device import Device
from mlxsrv.backends.image_options import ImageOptions
from mlxsrv.backends.select import Backend
from mlxsrv.config.settings import ApiSettings, ModelSettings, Settings
from mlxsrv.core.errors import (
    GenerationFailed,
    InsufficientMemory,
    Overloaded,
    ShuttingDown,
    TooLargeForMemory,
)
from mlxsrv.core.image import Drawing, DrawingStep, ImageRequest, ImageUpdate, Pixels
from mlxsrv.engines.image import MOST_RUNNING
from mlxsrv.engines.image_load import load_image
from mlxsrv.engines.image_stream import ImageStream
from mlxsrv.engines.memory import MemoryBudget
from mlxsrv.engines.model import ImageModel
from tests.tiny_images import write_flux

pytestmark = pytest.mark.slow

Test = Callable[["Bench"], Awaitable[None]]

PICTURE = 1000
"""Bytes that a picture reserves."""

MANY = 40
"""Steps that take long enough for something else to happen meanwhile."""


class Watched:
    """A backend, what it was asked to draw and in which order, and where it fails."""

    def __init__(self, backend: ImageBackend) -> None:
        self.backend = backend
        self.asked: list[Drawing] = []
        self.turns: list[int] = []
        self.slices = 0
        self.open = 0
        self.most_open = 0
        self.fails: Callable[[Drawing], bool] = lambda drawing: False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def working_bytes(self, drawing: Drawing) -> int:
        return PICTURE

    def draw(self, drawing: Drawing) -> Iterator[DrawingStep | None]:
        self.asked.append(drawing)
        self.open += 1
        self.most_open = max(self.open, self.most_open)
        try:
            for step in self.backend.draw(drawing):
                self.slices += 1
                if step is not None and step.done > 1 and self.fails(drawing):
                    raise RuntimeError("the device slipped")
                if step is not None and step.picture is None:
                    self.turns.append(drawing.seed)
                yield step
        finally:
            self.open -= 1


class Bench:
    """A model on a device, and the backend under it."""

    def __init__(
        self,
        model: ImageModel,
        backend: Watched,
        memory: MemoryBudget,
        device: Device,
        short: list[int],
    ) -> None:
        self.model = model
        self.engine = model.engine
        self.backend = backend
        self.memory = memory
        self.device = device
        self.short = short

    def submit(self, prompt: str = "a red circle", **options: Any) -> ImageStream:
        asked: dict[str, Any] = {"width": 64, "height": 64, "steps": 3, **options}
        return self.engine.submit(ImageRequest(prompt, **asked))

    async def draw(self, prompt: str = "a red circle", **options: Any) -> Pixels:
        [picture] = await pictures(self.submit(prompt, **options))
        return picture

    async def rest(self) -> None:
        """Waits until nothing is drawn."""
        async with asyncio.timeout(20):
            while self.backend.open or self.engine.meters.running:  # noqa: ASYNC110
                await asyncio.sleep(0.005)


async def each(stream: ImageStream) -> AsyncIterator[ImageUpdate]:
    async for updates in stream:
        for update in updates:
            yield update


async def pictures(stream: ImageStream) -> list[Pixels]:
    return [update.picture async for update in each(stream) if update.picture is not None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_flux(tmp_path_factory.mktemp("flux") / "tiny")


@pytest.fixture(params=["torch", "mlx"])
def bench(request: pytest.FixtureRequest, folder: Path) -> Callable[..., None]:
    name: Backend = request.param

    def run(test: Test, *, pictures: int = MOST_RUNNING, staged: bool = False) -> None:
        async def main() -> None:
            device = Device(at_exit=functools.partial(load.at_thread_exit, name))
            device.start()
            try:
                found = checkpoint.read(folder)
                options = ImageOptions(staged=staged, slice_seconds=0.01)
                loading = device.run("load", lambda: load.load_image(name, found, options))
                backend = Watched(await loading)
                memory = MemoryBudget(backend.facts.memory_bytes + pictures * PICTURE)
                memory.change("weights", backend.facts.memory_bytes)
                short: list[int] = []
                model = await load_image(
                    "tiny",
                    backend,
                    ModelSettings(path="x"),
                    Settings(api=ApiSettings(max_queue=2)),
                    device,
                    memory=memory,
                    on_short=short.append,
                )
                await test(Bench(model, backend, memory, device, short))
                await model.close()
                assert memory.held()["cache"] == backend.open == 0
            finally:
                await device.stop()

        asyncio.run(main())

    return run


def test_pictures_of_a_request_come_in_order_each_with_its_seed(bench: Any) -> None:
    async def test(bench: Bench) -> None:
        updates = [update async for update in each(bench.submit(n=3, seed=7, previews=1))]
        finished = [update for update in updates if update.picture is not None]
        assert [(one.index, one.seed, one.done) for one in finished] == [
            (0, 7, 3),
            (1, 8, 3),
            (2, 9, 3),
        ]
        places = [(update.index, update.done) for update in updates]
        assert places == sorted(places)
        assert set(places) >= {(index, done) for index in range(3) for done in (1, 2, 3)}
        assert sum(update.preview is not None for update in updates) == 3
        for one in finished:
            assert one.picture is not None
            assert one.picture.shape == (64, 64, 3)
            np.testing.assert_array_equal(one.picture, await bench.draw(seed=one.seed))
        assert bench.engine.meters.pictures == 6
        assert bench.engine.meters.steps == 18

    bench(test)


def test_a_seed_is_drawn_where_none_is_given(bench: Any) -> None:
    async def test(bench: Bench) -> None:
        [first, *_] = [update async for update in each(bench.submit())]
        [second, *_] = [update async for update in each(bench.submit())]
        assert first.seed != second.seed
        assert 0 <= first.seed < 2**32

    bench(test)


def test_requests_share_the_device(bench: Any) -> None:
    async def test(bench: Bench) -> None:
        await bench.draw()
        bench.backend.turns.clear()
        both = [pictures(bench.submit(seed=seed, steps=MANY)) for seed in (1, 2)]
        first, second = await asyncio.gather(*both)
        turns = bench.backend.turns
        halves = [turns[: len(turns) // 2].count(seed) for seed in (1, 2)]
        assert min(halves) > 0.3 * sum(halves)
        np.testing.assert_array_equal(first[0], await bench.draw(seed=1, steps=MANY))
        np.testing.assert_array_equal(second[0], await bench.draw(seed=2, steps=MANY))

    bench(test)


def test_who_waits_for_the_text_encoders_does_not_hold_up_the_one_they_read_for(
    bench: Any,
) -> None:
    async def test(bench: Bench) -> None:
        prompts = [f"{word} circle" for word in ("red", "green", "blue")]
        alone = [await bench.draw(prompt, seed=1) for prompt in prompts]
        bench.backend.slices = 0
        others = [f"a {prompt}" for prompt in prompts]
        await asyncio.gather(*(bench.draw(prompt, seed=1) for prompt in others))
        assert bench.backend.slices < 500
        again = await asyncio.gather(*(bench.draw(prompt, seed=1) for prompt in prompts))
        for one, same in zip(alone, again, strict=True):
            np.testing.assert_array_equal(one, same)

    bench(test, staged=True)


def test_a_newcomer_does_not_wait_for_the_pictures_before_it(bench: Any) -> None:
    async def test(bench: Bench) -> None:
        long = bench.submit(seed=1, steps=100, n=2)
        await anext(each(long))
        await bench.draw(seed=2, steps=2)
        assert bench.engine.meters.pictures == 1
        long.cancel()
        await bench.rest()

    bench(test)


def test_one_that_leaves_stops_at_once(bench: Any) -> None:
    async def test(bench: Bench) -> None:
        stream = bench.submit(steps=100, seed=1)
        async for update in each(stream):
            if update.done >= 2:
                break
        stream.cancel()
        stream.cancel()
        await bench.rest()
        assert bench.backend.turns.count(1) < 50
        assert bench.memory.held()["cache"] == 0
        assert bench.engine.meters.queue_length == 0
        assert (await bench.draw()).any()

    bench(test)


def test_a_model_that_goes_takes_along_what_was_given_up(bench: Any) -> None:
    async def test(bench: Bench) -> None:
        def other() -> Iterator[None]:
            while True:
                time.sleep(0.001)
                yield

        beside = bench.device.stream("other", other)
        await anext(beside)
        streams = [bench.submit(steps=100) for _ in range(MOST_RUNNING + 1)]
        await anext(each(streams[0]))
        for stream in streams:
            stream.cancel()

    bench(test)


def test_a_full_queue_is_said(bench: Any) -> None:
    async def test(bench: Bench) -> None:
        streams = [bench.submit(steps=100) for _ in range(MOST_RUNNING + 2)]
        with pytest.raises(Overloaded, match="2 requests are waiting"):
            bench.submit()
        async with asyncio.timeout(20):
            while bench.engine.meters.running < MOST_RUNNING:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        assert bench.engine.meters.queue_length == 2
        bench.model.cancel_all(ShuttingDown("going"))
        for stream in streams:
            with pytest.raises(ShuttingDown):
                await pictures(stream)
        await bench.rest()
        assert bench.backend.most_open <= MOST_RUNNING
        assert (await bench.draw()).any()

    bench(test)


def test_one_failure_ends_one_request(bench: Any) -> None:
    async def test(bench: Bench) -> None:
        bench.backend.fails = lambda drawing: drawing.seed == 13
        good = asyncio.create_task(bench.draw(seed=3, steps=8))
        with pytest.raises(GenerationFailed, match="while it drew"):
            await pictures(bench.submit(seed=12, n=3))
        np.testing.assert_array_equal(await good, await bench.draw(seed=3, steps=8))
        await bench.rest()

    bench(test)


def test_requests_wait_for_memory_and_all_get_it(bench: Any) -> None:
    async def test(bench: Bench) -> None:
        await asyncio.gather(*(bench.draw(seed=seed) for seed in range(4)))
        assert bench.backend.most_open == 1
        assert bench.short
        assert bench.memory.held()["cache"] == 0

    bench(test, pictures=1)


def test_room_that_others_hold_is_waited_for_or_refused(bench: Any) -> None:
    async def test(bench: Bench) -> None:
        bench.memory.change("cache", PICTURE)
        waiting = bench.submit()
        async with asyncio.timeout(20):
            while not bench.short:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        assert bench.short == [PICTURE]
        bench.engine.refuse_next(bench.memory.refusal("this picture", PICTURE))
        with pytest.raises(InsufficientMemory, match=r"needs 1\.0 kB"):
            await pictures(waiting)
        later = asyncio.create_task(bench.draw())
        await asyncio.sleep(0.02)
        bench.memory.release("cache", PICTURE)
        assert (await later).any()

    bench(test, pictures=1)


def test_a_picture_that_never_fits_is_refused_in_numbers(bench: Any) -> None:
    async def test(bench: Bench) -> None:
        with pytest.raises(TooLargeForMemory, match=r"64x64 needs 1\.0 kB .* budget is") as caught:
            await bench.draw()
        assert caught.value.param == "size"
        assert not bench.backend.asked

    bench(test, pictures=0)
