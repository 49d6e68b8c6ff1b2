"""Models that come and go: leases, room, turns, time to live."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from mlxsrv.core.errors import (
    Conflict,
    InsufficientMemory,
    InvalidRequest,
    LoadError,
    ModelNotFound,
    TooLargeForMemory,
    Unavailable,
)
from mlxsrv.core.text import Sampling, TextRequest
from mlxsrv.engines.model import TextModel
from mlxsrv.engines.text import TextStream
from mlxsrv.registry import LoadRequest, Registry
from tests.registry.conftest import needs

pytestmark = pytest.mark.slow

Run = Callable[..., Any]
PROMPT = tuple(range(20, 60))


async def generate(made: Registry, name: str, tokens: int = 5) -> list[int]:
    """How many tokens each step brought of a greedy answer."""
    async with made.lease(name, TextModel) as model:
        return [delta.generated async for delta in deltas(begin(model, tokens))]


def begin(model: TextModel, tokens: int) -> TextStream:
    return model.engine.submit(
        TextRequest((PROMPT,), tokens, Sampling(temperature=0.0), ignore_eos=True)
    )


async def deltas(stream: TextStream) -> AsyncIterator[Any]:
    async for batch in stream:
        for delta in batch:
            yield delta


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the registry tells nobody
            await asyncio.sleep(0.01)


def room_for_one(run: Run) -> int:
    """A budget that one of the models fits in, and two don't."""
    held = run(needs)
    assert held["weights"] > 1_000_000
    return int(held["activations"] + held["weights"] * 1.9)


def test_callers_that_come_at_once_share_one_load(run: Run) -> None:
    async def test(made: Registry) -> None:
        answers = await asyncio.gather(*(generate(made, "a") for _ in range(6)))
        assert all(answer == answers[0] and answer[-1] == 5 for answer in answers)
        assert made.loads() == {"a": 1}
        assert made.info("a").state == "idle"
        assert made.info("b").state == "available"

    run(test)


@pytest.mark.slow
def test_models_that_do_not_fit_together_take_turns(run: Run) -> None:
    budget = room_for_one(run)

    async def test(made: Registry) -> None:
        over = False

        async def client(place: int) -> None:
            nonlocal over
            for turn in range(6):
                await generate(made, "ab"[(place + turn) % 2])
                over |= sum(made.memory().held.values()) > budget

        await asyncio.gather(*(client(place) for place in range(8)))
        assert not over
        # Eight clients take six turns each: a load for each of the turns, not for each request.
        assert sum(made.loads().values()) <= 14

    run(test, budget=budget)


def test_a_busy_model_ends_its_answer_before_it_makes_room(run: Run) -> None:
    async def test(made: Registry) -> None:
        async with made.lease("a", TextModel) as model:
            answer = begin(model, 60)
            other = asyncio.create_task(generate(made, "b"))
            counts = [delta.generated async for delta in deltas(answer)]
            assert counts[-1] == 60
            assert not other.done()
        assert (await other)[-1] == 5
        assert made.info("a").state == "available"

    run(test, budget=room_for_one(run))


def test_a_pinned_model_stays_and_the_other_is_refused_in_numbers(run: Run) -> None:
    async def test(made: Registry) -> None:
        await generate(made, "a")
        with pytest.raises(InsufficientMemory, match=r"the model b needs .* MB of memory"):
            await generate(made, "b")
        assert (await generate(made, "a"))[-1] == 5

    run(test, budget=room_for_one(run), settings_of={"a": {"pin": True}})


def test_a_model_larger_than_the_budget_says_so(run: Run) -> None:
    async def test(made: Registry) -> None:
        with pytest.raises(TooLargeForMemory, match=r"the budget is 1\.0 MB") as caught:
            await generate(made, "a")
        assert caught.value.param == "model"
        assert not any(made.memory().held.values())

    run(test, budget=1_000_000)


def test_idle_models_go_after_their_time_and_come_back(run: Run) -> None:
    async def test(made: Registry) -> None:
        await generate(made, "a")
        await generate(made, "b")
        await until(lambda: made.info("a").state == "available")
        assert made.info("b").state == "idle"
        assert (await generate(made, "a"))[-1] == 5
        assert made.loads() == {"a": 2, "b": 1}

    run(test, ttl=0.2, settings_of={"b": {"pin": True}})


def test_unloading_waits_for_the_answer_and_leaves_the_list(run: Run) -> None:
    async def test(made: Registry) -> None:
        async with contextlib.AsyncExitStack() as held:
            model = await held.enter_async_context(made.lease("a", TextModel))
            answer = begin(model, 60)
            leaving = asyncio.create_task(made.unload("a"))
            await asyncio.sleep(0)
            with pytest.raises(ModelNotFound):
                made.info("a")
            counts = [delta.generated async for delta in deltas(answer)]
            assert counts[-1] == 60
            assert not leaving.done()
        assert (await leaving).state == "available"
        assert made.memory().held["weights"] == 0

    run(test)


def test_unloading_with_a_deadline_ends_what_runs_on(run: Run) -> None:
    async def test(made: Registry) -> None:
        async def read() -> None:
            async with made.lease("a", TextModel) as model:
                async for _ in deltas(begin(model, 400)):
                    await asyncio.sleep(0.01)

        reader = asyncio.create_task(read())
        await until(lambda: made.info("a").leases > 0)
        await made.unload("a", deadline=0.05)
        with pytest.raises(Unavailable, match="was unloaded"):
            await reader

    run(test)


def test_a_load_that_fails_leaves_what_was_there(run: Run, folders: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(folders / "c", tmp_path / "broken")
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])

    async def test(made: Registry) -> None:
        await generate(made, "a")
        before = dict(made.memory().held)
        with pytest.raises(LoadError):
            await made.load(LoadRequest(str(broken)))
        assert dict(made.memory().held) == before
        assert [info.name for info in made.list()] == ["a", "b"]
        assert (await generate(made, "a"))[-1] == 5

    run(test, allowed=(tmp_path,))


def test_paths_outside_the_allowed_folders_are_refused(
    run: Run, folders: Path, tmp_path: Path
) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link").symlink_to(folders / "c")

    async def test(made: Registry) -> None:
        for path in (folders / "c", inside / ".." / "c", inside / "link"):
            with pytest.raises(InvalidRequest, match="allowed-folders") as caught:
                await made.load(LoadRequest(str(path)))
            assert caught.value.param == "model"

    run(test, allowed=(inside,))


def test_a_loaded_model_can_be_named_pinned_and_given_a_time(run: Run, folders: Path) -> None:
    async def test(made: Registry) -> None:
        info = await made.load(LoadRequest(str(folders / "c"), name="sea", pin=True))
        assert (info.name, info.state, info.pin) == ("sea", "idle", True)
        assert (await made.load(LoadRequest("sea", ttl=5.0, pin=False))).ttl == 5.0
        assert made.info("sea").pin is False
        with pytest.raises(Conflict):
            await made.load(LoadRequest(str(folders / "b"), name="sea"))
        await made.load(LoadRequest("sea", name="ocean"))
        assert (await generate(made, "sea"))[-1] == 5
        assert await made.resolve("ocean", {info.kind}) == "sea"
        assert made.loads() == {"sea": 1}

    run(test, allowed=(folders,))


def test_requests_wait_for_room_in_memory_and_all_get_it(run: Run) -> None:
    held = run(needs)
    # 2 layers x 2 (keys and values) x 64 wide x 4 bytes, in steps of 256 tokens
    each = 2 * 2 * 64 * 4 * 512
    budget = held["activations"] + held["weights"] + 2 * each + each // 2

    async def test(made: Registry) -> None:
        most = 0

        async def client() -> list[int]:
            nonlocal most
            async with made.lease("a", TextModel) as model:
                counts = []
                async for delta in deltas(begin(model, 300)):
                    counts.append(delta.generated)
                    most = max(most, made.memory().held["cache"])
                return counts

        answers = await asyncio.gather(*(client() for _ in range(5)))
        assert all(answer[-1] == 300 for answer in answers)
        assert most == 2 * each
        assert made.memory().held["cache"] == 0

    run(test, budget=budget)


def test_a_request_that_can_never_fit_is_refused_in_numbers(run: Run) -> None:
    held = run(needs)
    budget = held["activations"] + held["weights"] + 2 * 2 * 64 * 4 * 1024

    async def test(made: Registry) -> None:
        async with made.lease("d", TextModel) as model:
            with pytest.raises(TooLargeForMemory, match="lower max_tokens") as caught:
                begin(model, 8000)
            assert caught.value.param == "max_tokens"
            answer = [delta.generated async for delta in deltas(begin(model, 300))]
            assert answer[-1] == 300

    run(test, budget=budget, names="d")


def test_an_idle_model_makes_room_for_a_request(run: Run) -> None:
    held = run(needs)
    budget = held["activations"] + 2 * held["weights"] + 2 * 2 * 64 * 4 * 512

    async def test(made: Registry) -> None:
        await generate(made, "b")
        async with made.lease("a", TextModel) as model:
            answers = await asyncio.gather(*(collect(begin(model, 400)) for _ in range(3)))
        assert all(answer[-1] == 400 for answer in answers)
        assert made.info("b").state == "available"

    async def collect(stream: TextStream) -> list[int]:
        return [delta.generated async for delta in deltas(stream)]

    run(test, budget=budget)
