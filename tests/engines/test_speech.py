"""Texts through the speech engine: pieces, company, slow readers and failures."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mlxsrv.backends import builtin, checkpoint, load
from mlxsrv.backends.base import SpeechBackend
from mlxsrv.backends.device import Device
from mlxsrv.config.settings import ApiSettings, ModelSettings, Settings
from mlxsrv.core.errors import GenerationFailed, InvalidRequest, Overloaded, ShuttingDown
from mlxsrv.core.speech import SpeechRequest, Utterance, Voice
from mlxsrv.engines.model import SpeechModel
from mlxsrv.engines.sentences import pieces, weight
from mlxsrv.engines.speech import AHEAD_SECONDS, MOST_RUNNING
from mlxsrv.engines.speech_load import load_speech
from mlxsrv.engines.spoken import FIRST_PIECE, FRAMES, PIECE, spoken

Samples = NDArray[np.float32]
Test = Callable[["Bench"], Awaitable[None]]

SENTENCE = "The quick brown fox jumps over the lazy dog, and then it goes home. "
LONG = SENTENCE * 40
RATE = 22_050


class Watched:
    """A backend, what it was asked for, and where it fails."""

    def __init__(self, backend: SpeechBackend) -> None:
        self.backend = backend
        self.asked: list[Utterance] = []
        self.open = 0
        self.fails: Callable[[Utterance], Exception | None] = lambda utterance: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def synthesize(self, utterance: Utterance) -> Iterator[Samples]:
        self.asked.append(utterance)
        self.open += 1
        try:
            for block in self.backend.synthesize(utterance):
                error = self.fails(utterance)
                if error is not None:
                    raise error
                yield from np.array_split(block, max(1, len(block) // 10_000))
        finally:
            self.open -= 1


class Bench:
    """A model on a device, and the backend under it."""

    def __init__(self, model: SpeechModel, backend: Watched) -> None:
        self.model = model
        self.engine = model.engine
        self.backend = backend

    async def say(self, text: str, **options: Any) -> Samples:
        stream = self.engine.submit(SpeechRequest(text, "en-us", **options))
        return np.concatenate([samples async for samples in stream])

    async def rest(self) -> None:
        """Waits until nothing is being spoken."""
        async with asyncio.timeout(20):
            while self.backend.open or self.engine.meters.running:  # noqa: ASYNC110
                await asyncio.sleep(0.005)


@pytest.fixture
def bench() -> Callable[[Test], None]:
    pytest.importorskip("espeakng_loader")

    def run(test: Test) -> None:
        async def main() -> None:
            device = Device()
            device.start()
            try:
                folder = builtin.builtin_folder("espeak")
                assert folder is not None
                found = checkpoint.read(folder)
                loading = device.run("load", lambda: load.load_speech("torch", found))
                backend = Watched(await loading)
                settings = Settings(api=ApiSettings(max_queue=2))
                own = ModelSettings(path="espeak")
                model = await load_speech("espeak", backend, own, settings, device)
                await test(Bench(model, backend))
                await model.close()
            finally:
                await device.stop()

        asyncio.run(main())

    return run


def test_a_text_is_its_sentences_one_after_the_other(bench: Callable[..., None]) -> None:
    async def test(bench: Bench) -> None:
        text = "This is one sentence. Here is another of them! And this, at last, is the third?"
        whole = await bench.say(text, seed=5)
        assert [one.text for one in bench.backend.asked] == list(pieces(text, PIECE, FIRST_PIECE))
        parts = [
            block for one in bench.backend.asked for block in bench.backend.backend.synthesize(one)
        ]
        np.testing.assert_array_equal(whole, np.concatenate(parts))
        assert len({one.seed for one in bench.backend.asked}) == 3
        np.testing.assert_array_equal(whole, await bench.say(text, seed=5))
        assert bench.engine.meters.seconds == pytest.approx(2 * len(whole) / RATE)

    bench(test)


def test_the_first_sentence_is_heard_before_the_second_is_begun(
    bench: Callable[..., None],
) -> None:
    async def test(bench: Bench) -> None:
        begun: list[int] = []
        stream = bench.engine.submit(SpeechRequest(LONG, "en-us"))
        bench.backend.fails = lambda utterance: begun.append(len(bench.backend.asked))
        async for _ in stream:
            break
        assert begun[0] == 1
        stream.cancel()
        await bench.rest()

    bench(test)


def test_a_slow_reader_is_waited_for_and_misses_nothing(bench: Callable[..., None]) -> None:
    async def test(bench: Bench) -> None:
        expected = await bench.say(LONG, seed=1)
        longest = 2 * max(len(samples) for samples in [await bench.say(SENTENCE)])
        asked = len(bench.backend.asked)
        stream = bench.engine.submit(SpeechRequest(LONG, "en-us", seed=1))
        parts: list[Samples] = []
        async for samples in stream:
            parts.append(samples)
            await asyncio.sleep(0.01)
            assert stream.ahead <= AHEAD_SECONDS * RATE + longest
        np.testing.assert_array_equal(np.concatenate(parts), expected)
        begun = len(bench.backend.asked)
        stalled = bench.engine.submit(SpeechRequest(LONG, "en-us"))
        async with asyncio.timeout(20):
            while stalled.made < AHEAD_SECONDS * RATE or bench.backend.open:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        assert 0 < len(bench.backend.asked) - begun < begun - asked
        held = stalled.made
        await bench.say(SENTENCE)  # nobody waits for one who does not listen
        assert stalled.made == held
        stalled.cancel()
        await bench.rest()

    bench(test)


def test_a_newcomer_waits_for_a_sentence_and_not_for_the_book(bench: Callable[..., None]) -> None:
    async def test(bench: Bench) -> None:
        book = asyncio.create_task(bench.say(LONG, seed=1))
        while len(bench.backend.asked) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        letter = await bench.say("A short letter.", seed=2)
        assert not book.done()
        texts = [one.text for one in bench.backend.asked]
        assert texts.count("A short letter.") == 1
        alone = await bench.say("A short letter.", seed=2)
        np.testing.assert_array_equal(letter, alone)
        np.testing.assert_array_equal(await book, await bench.say(LONG, seed=1))

    bench(test)


def test_one_that_leaves_is_silent_at_once(bench: Callable[..., None]) -> None:
    async def test(bench: Bench) -> None:
        stream = bench.engine.submit(SpeechRequest(LONG, "en-us"))
        async for _ in stream:
            break
        stream.cancel()
        stream.cancel()
        await bench.rest()
        asked = len(bench.backend.asked)
        await asyncio.sleep(0.05)
        assert len(bench.backend.asked) == asked
        assert bench.engine.meters.queue_length == 0
        assert len(await bench.say("Still here.")) > RATE / 4

    bench(test)


def test_a_full_queue_is_said(bench: Callable[..., None]) -> None:
    async def test(bench: Bench) -> None:
        request = SpeechRequest(LONG, "en-us")
        streams = [bench.engine.submit(request) for _ in range(MOST_RUNNING + 2)]
        with pytest.raises(Overloaded, match="2 requests are waiting"):
            bench.engine.submit(request)
        bench.model.cancel_all(ShuttingDown("going"))
        for stream in streams:
            with pytest.raises(ShuttingDown):
                async for _ in stream:
                    pass
        await bench.rest()
        assert len(await bench.say("Still here."))

    bench(test)


def test_one_failure_ends_one_request(bench: Callable[..., None]) -> None:
    async def test(bench: Bench) -> None:
        def fails(utterance: Utterance) -> Exception | None:
            return RuntimeError("the device slipped") if "bad" in utterance.text else None

        bench.backend.fails = fails
        good = asyncio.create_task(bench.say(LONG, seed=3))
        with pytest.raises(GenerationFailed, match="while it spoke"):
            await bench.say("This is fine at first, and good. But this is bad. And then it ends.")
        np.testing.assert_array_equal(await good, await bench.say(LONG, seed=3))
        await bench.rest()

    bench(test)


def test_what_a_model_can_not_say_is_left_out(bench: Callable[..., None]) -> None:
    async def test(bench: Bench) -> None:
        def fails(utterance: Utterance) -> Exception | None:
            return InvalidRequest("no such letters") if "Ж" in utterance.text else None

        bench.backend.fails = fails
        text = "This is a sentence of words. ЖЖЖЖЖ ЖЖЖЖЖ ЖЖЖЖЖЖЖЖЖ ЖЖЖЖ. And this is another."
        mixed = await bench.say(text, seed=1)
        parts = [one.text for one in bench.backend.asked]
        assert len(parts) == 3
        assert len(mixed) > len(await bench.say(parts[0]))
        with pytest.raises(InvalidRequest, match="no such letters"):
            await bench.say("ЖЖЖ. ЖЖЖ!")
        still = await bench.say("\u200b")
        assert 0 < len(still) < RATE
        assert not still.any()

    bench(test)


def test_frames_bound_the_whole_where_they_are_given(bench: Callable[..., None]) -> None:
    async def test(bench: Bench) -> None:
        whole = await bench.say(LONG, seed=1)
        cut = await bench.say(LONG, seed=1, max_frames=60)
        assert len(cut) == 60 * RATE / 7.5
        np.testing.assert_array_equal(cut, whole[: len(cut)])
        assert len(whole) > FRAMES * RATE / 7.5

    bench(test)


def test_slow_speech_is_not_cut_short(bench: Callable[..., None]) -> None:
    async def test(bench: Bench) -> None:
        usual = await bench.say(LONG[:300], seed=1)
        slow = await bench.say(LONG[:300], seed=1, speed=0.25)
        assert len(slow) == pytest.approx(4 * len(usual), rel=0.15)
        assert all(weight(one.text) <= PIECE / 4 for one in bench.backend.asked[-3:])

    bench(test)


class Drawling:
    """Takes a second a letter, and gives each utterance whole, within the frames it may have."""

    sample_rate = 150
    voices = (Voice("a", "en"),)
    default_voice = "a"
    clones = False
    facts: Any = None

    def __init__(self) -> None:
        self.asked: list[Utterance] = []

    def synthesize(self, utterance: Utterance) -> Iterator[Samples]:
        self.asked.append(utterance)
        yield np.ones(0, np.float32)
        assert utterance.max_frames is not None
        most = utterance.max_frames * 20
        yield np.ones(len(utterance.text) * self.sample_rate, np.float32)[:most]

    def close(self) -> None:
        pass


def test_a_piece_that_takes_too_long_is_spoken_in_smaller_ones() -> None:
    backend = Drawling()
    text = "One two three four five six seven eight nine ten."
    made = [block for block in spoken(backend, SpeechRequest(text, "a")) if block is not None]
    last = [one.text for one in backend.asked if len(one.text) < 20]
    assert " ".join(last) == text
    assert sum(map(len, made)) == sum(map(len, last)) * backend.sample_rate
    endless = Drawling()
    made = [block for block in spoken(endless, SpeechRequest("x" * 70, "a")) if block is not None]
    assert sum(map(len, made)) == 70 * endless.sample_rate


def test_a_model_that_does_not_end_is_stopped() -> None:
    class Endless(Drawling):
        def synthesize(self, utterance: Utterance) -> Iterator[Samples]:
            self.asked.append(utterance)
            while True:
                yield np.ones(20, np.float32)

    backend = Endless()
    text = "The first sentence of them all. The second sentence of them."
    made = [block for block in spoken(backend, SpeechRequest(text, "a")) if block is not None]
    assert sum(map(len, made)) == 2 * FRAMES * 20
    assert [one.max_frames for one in backend.asked] == [FRAMES, FRAMES]
    bounded = spoken(backend, SpeechRequest(text, "a", max_frames=FRAMES + 7))
    assert sum(len(block) for block in bounded if block is not None) == (FRAMES + 7) * 20
    assert backend.asked[-1].max_frames == 7


def test_a_text_goes_on_in_the_voice_it_began_with() -> None:
    class Mimic(Drawling):
        clones = True

        def synthesize(self, utterance: Utterance) -> Iterator[Samples]:
            self.asked.append(utterance)
            yield np.full(150 * len(self.asked), 0.1 * len(self.asked), np.float32)

    text = "The first sentence of them all. The second sentence of them. And this is the third."
    backend = Mimic()
    made = [block for block in spoken(backend, SpeechRequest(text, "a")) if block is not None]
    assert backend.asked[0].reference is None
    for later in backend.asked[1:]:
        np.testing.assert_array_equal(later.reference, made[0])
    given = np.ones(300, np.float32)
    list(spoken(backend, SpeechRequest(text, "a", reference=given)))
    assert all(one.reference is given for one in backend.asked[3:])
