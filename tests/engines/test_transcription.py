"""Recordings through the transcription engine, on both backends: text, company, and failures."""

from __future__ import annotations

import asyncio
import json
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mlxsrv.backends import checkpoint, load
from mlxsrv.backends.base import Encoded, TranscriptionBackend
from mlxsrv.backends.device import Device
from mlxsrv.backends.select import Backend
from mlxsrv.config.settings import ApiSettings, Settings
from mlxsrv.core.errors import (
    GenerationFailed,
    InsufficientMemory,
    InvalidRequest,
    Overloaded,
    ShuttingDown,
)
from mlxsrv.core.transcription import Segment, TranscriptionRequest
from mlxsrv.engines.memory import MemoryBudget
from mlxsrv.engines.model import TranscriptionModel
from mlxsrv.engines.transcription import MOST_RUNNING
from mlxsrv.engines.transcription_load import load_transcription
from tests import tiny_whisper

pytestmark = pytest.mark.slow

Floats = NDArray[np.float32]
Test = Callable[["Bench"], Awaitable[None]]

MOMENTS = 150
"""Of a window: three seconds, where Whisper's own have thirty."""

RECORDING = 1000
"""Bytes that a recording reserves."""

ONCE = TranscriptionRequest(language="en", temperatures=(0.0,))


def noise(seconds: float, seed: int = 0) -> Floats:
    """Loud and quiet in turn."""
    rng = np.random.default_rng(seed)
    samples = rng.standard_normal(int(seconds * 16_000))
    loudness = np.repeat(rng.uniform(0.01, 0.5, int(seconds * 4) + 1), 4000)
    return (samples * loudness[: len(samples)]).astype(np.float32)


def blocks(samples: Floats) -> list[Floats]:
    return np.array_split(samples, max(1, len(samples) // 50_000))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("whisper") / "tiny", MOMENTS)


def build(path: Path, moments: int) -> Path:
    """A tiny model that writes text alone between its time stamps."""
    tiny_whisper.build(path, audio_context=moments)
    tokens = json.loads((path / "tokenizer.json").read_text())["added_tokens"]
    ids = {token["content"]: token["id"] for token in tokens}
    settings = json.loads((path / "generation_config.json").read_text())
    steering = range(ids["<|startoftranscript|>"], ids["<|notimestamps|>"] + 1)
    settings["suppress_tokens"] = list(steering)
    (path / "generation_config.json").write_text(json.dumps(settings))
    return path


class Watched:
    """A backend, how it is used, and where it fails."""

    def __init__(self, backend: TranscriptionBackend) -> None:
        self.backend = backend
        self.steps: list[int] = []
        self.prompts: list[list[int]] = []
        self.rows: set[int] = set()
        self.fails: Callable[[set[int]], bool] = lambda rows: False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def insert(self, uid: int, window: Encoded, tokens: Sequence[int]) -> None:
        self.prompts.append(list(tokens))
        self.rows.add(uid)
        self.backend.insert(uid, window, tokens)

    def remove(self, uids: Collection[int]) -> None:
        self.rows -= set(uids)
        self.backend.remove(uids)

    def reset(self) -> None:
        self.rows.clear()
        self.backend.reset()

    def step(self) -> dict[int, Floats]:
        if self.fails(self.rows):
            raise RuntimeError("the device slipped")
        logits = self.backend.step()
        self.steps.append(len(logits))
        return logits


class Bench:
    """A model on a device, the backend under it, and the memory around it.

    `short` collects what the engine says is missing.
    """

    def __init__(
        self, model: TranscriptionModel, backend: Watched, device: Device, memory: MemoryBudget
    ) -> None:
        self.model = model
        self.backend = backend
        self.device = device
        self.memory = memory
        self.short: list[int] = []

    @property
    def held(self) -> int:
        return self.memory.held()["cache"]

    async def transcribe(
        self, samples: Floats, request: TranscriptionRequest = ONCE
    ) -> list[Segment]:
        stream = self.model.engine.submit(request, lambda: blocks(samples))
        return [
            segment async for updates in stream for update in updates for segment in update.segments
        ]

    async def tokens(self, samples: Floats) -> list[tuple[int, ...]]:
        return [segment.tokens for segment in await self.transcribe(samples)]

    async def rest(self) -> None:
        """Waits until nothing runs."""
        meters = self.model.engine.meters
        async with asyncio.timeout(20):
            while meters.running or meters.queue_length:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


@pytest.fixture(params=["torch", "mlx"])
def bench(request: pytest.FixtureRequest, folder: Path) -> Callable[..., None]:
    name: Backend = request.param

    def run(test: Test, folder: Path = folder, *, limit: int = 10 * RECORDING) -> None:
        async def main() -> None:
            device = Device(at_exit=lambda: load.at_thread_exit(name))
            device.start()
            try:
                found = checkpoint.read(folder)
                loading = device.run("load", lambda: load.load_transcription(name, found))
                backend = Watched(await loading)
                settings = Settings(api=ApiSettings(max_queue=2))
                memory = MemoryBudget(limit)
                short: list[int] = []
                model = await load_transcription(
                    "tiny",
                    backend,
                    found,
                    settings,
                    device,
                    memory=memory,
                    recording_bytes=RECORDING,
                    on_short=short.append,
                )
                bench = Bench(model, backend, device, memory)
                bench.short = short
                await test(bench)
                await model.close()
                assert bench.held == 0
            finally:
                await device.stop()

        asyncio.run(main())

    return run


def by_transformers(folder: Path, samples: Floats) -> list[tuple[float, float, list[int]]]:
    from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration

    model: Any = WhisperForConditionalGeneration.from_pretrained(folder)
    features = WhisperFeatureExtractor()(
        samples,
        sampling_rate=16_000,
        return_tensors="pt",
        truncation=False,
        padding="longest",
        return_attention_mask=True,
    )
    model.generation_config.max_length = None
    model.generation_config.max_new_tokens = 224
    found = model.generate(
        **features, return_timestamps=True, language="en", task="transcribe", return_segments=True
    )
    return [
        (float(one["start"]), float(one["end"]), one["tokens"].tolist())
        for one in found["segments"][0]
    ]


@pytest.mark.slow
def test_the_text_is_that_of_transformers(bench: Callable[..., None], tmp_path: Path) -> None:
    samples = noise(75, 3)
    folder = build(tmp_path / "whole", 1500)
    expected = by_transformers(folder, samples)

    async def test(bench: Bench) -> None:
        alone = TranscriptionRequest(language="en", temperatures=(0.0,), condition=False)
        segments = await bench.transcribe(samples, alone)
        vocabulary = bench.model.whisper.vocabulary
        spoken = [one for one in expected if vocabulary.text(one[2]).strip()]
        assert len(segments) > 3
        first = vocabulary.special.first_stamp
        for one, (_, _, tokens) in zip(segments, spoken, strict=True):
            # transformers keeps the stamp that opens what was left unfinished.
            extra = len(tokens) > 1 and min(tokens[-2:]) >= first
            assert list(one.tokens) == (tokens[:-1] if extra else tokens)
        assert [(one.start, one.end) for one in segments] == [
            pytest.approx((start, end), abs=0.01) for start, end, _ in spoken
        ]

    bench(test, folder)


def test_files_share_steps_and_change_nothing_for_each_other(
    bench: Callable[..., None],
) -> None:
    async def test(bench: Bench) -> None:
        files = [noise(7, 1), noise(13, 2), noise(4, 3), noise(9, 4)]
        alone = [await bench.tokens(samples) for samples in files]
        steps = len(bench.backend.steps)
        together = await asyncio.gather(*map(bench.tokens, files))
        assert together == alone
        assert any(alone)
        assert max(bench.backend.steps) > 1
        assert len(bench.backend.steps) - steps < steps

    bench(test)


def test_what_was_written_is_shown_to_the_model_again(bench: Callable[..., None]) -> None:
    async def test(bench: Bench) -> None:
        special = bench.model.whisper.vocabulary.special
        asked = TranscriptionRequest(language="en", temperatures=(0.0,), prompt=" Hello world ")
        segments = await bench.transcribe(noise(9), asked)
        prompts = [p for p in bench.backend.prompts if p[0] == special.previous]
        prompt = bench.model.whisper.vocabulary.encode(" Hello world")
        assert prompts[0] == [special.previous, *prompt, special.start]
        assert prompts[1][: len(prompt) + 1] == [special.previous, *prompt]
        assert prompts[1][len(prompt) + 1 : -1] == [
            token for one in segments if one.seek == 0 for token in one.tokens
        ]
        bench.backend.prompts.clear()
        await bench.transcribe(noise(9), replace(asked, prompt="", condition=False))
        assert len(bench.backend.prompts) > 1
        assert all(prompt[0] == special.start for prompt in bench.backend.prompts)

    bench(test)


def test_implausible_text_is_tried_again_at_higher_temperatures(
    bench: Callable[..., None],
) -> None:
    async def test(bench: Bench) -> None:
        loop = np.tile(noise(0.2), 30)
        drawn = TranscriptionRequest(language="en", temperatures=(0.6, 1.0))
        once = await bench.transcribe(loop, drawn)
        again = await bench.transcribe(loop, drawn)
        assert once == again
        assert max(bench.backend.steps) == 5
        assert all(one.temperature in {0.6, 1.0} for one in once)

    bench(test)


def test_silence_is_never_decoded(bench: Callable[..., None]) -> None:
    async def test(bench: Bench) -> None:
        still = np.zeros(16_000 * 600, np.float32)
        began = time.perf_counter()
        stream = bench.model.engine.submit(ONCE, lambda: [still] * 24)
        updates = [update async for several in stream for update in several]
        assert time.perf_counter() - began < 15
        assert [(one.segments, one.seconds, one.duration) for one in updates] == [
            ((), 14_400, 14_400)
        ]
        assert bench.backend.steps == []
        assert await bench.transcribe(np.zeros(0, np.float32)) == []
        assert await bench.transcribe(np.zeros(100, np.float32)) == []

    bench(test)


def test_the_language_is_found_where_somebody_speaks(bench: Callable[..., None]) -> None:
    async def test(bench: Bench) -> None:
        samples = np.concatenate([np.zeros(16_000 * 9, np.float32), noise(3)])
        asked = TranscriptionRequest(temperatures=(0.0,))
        stream = bench.model.engine.submit(asked, lambda: blocks(samples))
        updates = [update async for several in stream for update in several]
        special = bench.model.whisper.vocabulary.special
        assert bench.backend.prompts[:2] == [[special.start], [special.start]]
        assert updates[-1].language in special.languages
        assert updates[0].seconds >= 9

    bench(test)


def test_words_say_when_they_are_spoken(bench: Callable[..., None]) -> None:
    async def test(bench: Bench) -> None:
        asked = TranscriptionRequest(language="en", temperatures=(0.0,), words=True)
        segments = await bench.transcribe(noise(9), asked)
        spoken = [segment for segment in segments if segment.words]
        assert spoken
        for segment in spoken:
            assert (segment.words[0].start, segment.words[-1].end) == (segment.start, segment.end)
            assert all(0 <= word.start <= word.end <= 12 for word in segment.words)
            written = "".join(word.text for word in segment.words)
            assert written.startswith(segment.text) or segment.text.endswith(written)

    bench(test)


def test_one_that_leaves_frees_its_place_at_once(bench: Callable[..., None]) -> None:
    async def test(bench: Bench) -> None:
        engine, meters = bench.model.engine, bench.model.engine.meters
        streams = [engine.submit(ONCE, lambda: blocks(noise(60))) for _ in range(MOST_RUNNING)]
        waiting = engine.submit(ONCE, lambda: blocks(noise(60)))
        while len(bench.backend.steps) < 5:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        assert (meters.running, meters.queue_length) == (MOST_RUNNING, 1)
        for stream in (*streams, waiting):
            stream.cancel()
        steps = len(bench.backend.steps)
        await bench.rest()
        assert bench.backend.rows == set()
        assert len(bench.backend.steps) <= steps + 1, "it goes on only with what it is at"

    bench(test)


def test_a_full_queue_is_said(bench: Callable[..., None]) -> None:
    async def test(bench: Bench) -> None:
        engine = bench.model.engine
        streams = [engine.submit(ONCE, lambda: blocks(noise(30))) for _ in range(MOST_RUNNING + 2)]
        with pytest.raises(Overloaded, match="2 requests are waiting"):
            engine.submit(ONCE, lambda: [])
        bench.model.cancel_all(ShuttingDown("going"))
        for stream in streams:
            with pytest.raises(ShuttingDown):
                async for _ in stream:
                    pass
        await bench.rest()
        assert await bench.transcribe(np.zeros(0, np.float32)) == []

    bench(test)


def test_one_bad_recording_ends_alone(bench: Callable[..., None]) -> None:
    def damaged() -> Iterator[Floats]:
        yield noise(2)
        raise InvalidRequest("This is no sound", param="file")

    def broken() -> Iterator[Floats]:
        yield noise(2)
        raise OSError("no space left on the device")

    async def test(bench: Bench) -> None:
        samples = noise(6)
        expected = await bench.tokens(samples)
        good = asyncio.create_task(bench.tokens(samples))
        for source, error in ((damaged, InvalidRequest), (broken, GenerationFailed)):
            with pytest.raises(error):
                async for _ in bench.model.engine.submit(ONCE, source):
                    pass
        assert await good == expected

    bench(test)


def test_a_step_that_fails_once_ends_nobody(bench: Callable[..., None]) -> None:
    async def test(bench: Bench) -> None:
        files = [noise(5, 1), noise(5, 2), noise(5, 3)]
        expected = [await bench.tokens(samples) for samples in files]
        slips = iter([True])
        begun = len(bench.backend.steps)

        def fails(rows: set[int]) -> bool:
            return len(bench.backend.steps) > begun + 6 and next(slips, False)

        bench.backend.fails = fails
        assert await asyncio.gather(*map(bench.tokens, files)) == expected

    bench(test)


def test_a_row_that_always_fails_ends_alone(bench: Callable[..., None]) -> None:
    async def test(bench: Bench) -> None:
        files = [noise(5, 1), noise(5, 2), noise(5, 3)]
        expected = [await bench.tokens(samples) for samples in files]
        bad: list[int] = []

        def fails(rows: set[int]) -> bool:
            if not bad and len(rows) == 3:
                bad.append(min(rows))
            return bool(bad) and bad[0] in rows

        bench.backend.fails = fails
        tasks = [bench.tokens(samples) for samples in files]
        results = await asyncio.gather(*tasks, return_exceptions=True)
        failed = [isinstance(one, GenerationFailed) for one in results]
        assert sorted(failed) == [False, False, True]
        for one, wanted in zip(results, expected, strict=True):
            assert isinstance(one, GenerationFailed) or one == wanted

    bench(test)


def test_recordings_wait_until_there_is_memory_for_them(bench: Callable[..., None]) -> None:
    async def test(bench: Bench) -> None:
        meters = bench.model.engine.meters
        files = [noise(5, seed) for seed in range(4)]
        expected = [await bench.tokens(samples) for samples in files]
        assert (bench.held, meters.seconds) == (0, 20)
        tasks = [asyncio.create_task(bench.tokens(samples)) for samples in files]
        most, queued = 0, 0
        while not all(task.done() for task in tasks):
            most, queued = max(most, bench.held), max(queued, meters.queue_length)
            await asyncio.sleep(0)
        assert [task.result() for task in tasks] == expected
        assert (most, queued) == (2 * RECORDING, 2)
        assert set(bench.short) == {RECORDING}
        assert meters.segments == 2 * sum(map(len, expected)) > 0
        assert meters.generated_tokens > meters.segments
        assert (meters.seconds, meters.running, meters.queue_length) == (40, 0, 0)

    bench(test, limit=3 * RECORDING - 1)


def test_memory_comes_back_however_a_recording_ends(bench: Callable[..., None]) -> None:
    async def test(bench: Bench) -> None:
        engine = bench.model.engine
        long, waiting = (engine.submit(ONCE, lambda: blocks(noise(120))) for _ in range(2))
        async for _ in long:
            break
        assert bench.held == RECORDING
        assert (long.started, waiting.started) == (True, False)
        waiting.cancel()
        failing = engine.submit(ONCE, unreadable)
        long.cancel()
        with pytest.raises(InvalidRequest, match="no sound"):
            await anext(aiter(failing))
        await bench.rest()
        assert bench.held == 0
        assert await bench.tokens(noise(4))

    bench(test, limit=RECORDING)


def test_what_others_hold_is_waited_for_and_who_waits_can_be_refused(
    bench: Callable[..., None],
) -> None:
    async def test(bench: Bench) -> None:
        assert bench.memory.take("cache", RECORDING)
        first, second = (bench.model.engine.submit(ONCE, lambda: blocks(noise(4))) for _ in "ab")
        while not bench.short:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        bench.model.engine.refuse_next(bench.memory.refusal("this request's cache", RECORDING))
        with pytest.raises(InsufficientMemory, match=r"needs 1\.0 kB .* 0 B of the budget"):
            await anext(aiter(first))
        bench.memory.release("cache", RECORDING)
        assert [update async for several in second for update in several]
        await bench.rest()

    bench(test, limit=RECORDING)


def unreadable() -> Iterator[Floats]:
    raise InvalidRequest("no sound", param="file")


def test_ten_minutes_take_little_memory(bench: Callable[..., None]) -> None:
    async def test(bench: Bench) -> None:
        block = noise(10)
        tracemalloc.start()
        try:
            stream = bench.model.engine.submit(ONCE, lambda: (block for _ in range(60)))
            async for _ in stream:
                break
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        stream.cancel()
        await bench.rest()
        assert peak < 50_000_000

    bench(test)
