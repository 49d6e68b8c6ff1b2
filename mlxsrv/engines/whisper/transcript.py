"""A recording's way through Whisper, window by window.

`transcribe` is a generator that says what it needs next (`Ask`) and is sent the answer, so that
the engine decides when and beside whom it is done. It yields a `TranscriptionUpdate` for every
window, which needs no answer.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mlxsrv.backends.base import Encoded
from mlxsrv.core.transcription import (
    CANDIDATES,
    Segment,
    TranscriptionRequest,
    TranscriptionUpdate,
    WhisperShape,
)
from mlxsrv.engines.whisper.fallback import FREE, Decoded, compression_ratio
from mlxsrv.engines.whisper.row import LanguageRow, Row
from mlxsrv.engines.whisper.rules import Rules
from mlxsrv.engines.whisper.spectrogram import Spectrogram
from mlxsrv.engines.whisper.timing import token_times
from mlxsrv.engines.whisper.vocabulary import Vocabulary
from mlxsrv.engines.whisper.windows import SECONDS_PER_FRAME, Cut, cut
from mlxsrv.engines.whisper.words import split_words, timed_words, with_words

Floats = NDArray[np.float32]
Open = Callable[[], Iterable[Floats]]
"""Gives a recording as blocks of samples at 16 kHz."""

ENGLISH = "en"


class DecoderRow(Protocol):
    """What the engine has to know of a row."""

    tokens: list[int]
    finished: bool

    def accept(self, logits: Floats) -> list[int]: ...


@dataclass(frozen=True, slots=True)
class Work:
    """Asks for the result of `run`, on a thread where it holds up nobody."""

    run: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Encode:
    """Asks for the encoded window of these frames."""

    mel: Floats


@dataclass(frozen=True, slots=True)
class Decode:
    """Asks that the rows be fed until all are finished."""

    window: Encoded
    rows: Sequence[DecoderRow]


@dataclass(frozen=True, slots=True)
class Align:
    """Asks for the attention of a text's tokens."""

    window: Encoded
    tokens: tuple[int, ...]


Ask = Work | Encode | Decode | Align
Steps = Generator[Ask | TranscriptionUpdate, Any, Any]


@dataclass(frozen=True, slots=True)
class Whisper:
    """What is known of the model."""

    shape: WhisperShape
    vocabulary: Vocabulary
    rules: Rules


def transcribe(request: TranscriptionRequest, whisper: Whisper, open_audio: Open) -> Steps:
    """Raises what `open_audio` raises."""
    sound = Spectrogram(whisper.shape.mels)
    transcript = _Transcript(request, whisper, sound)

    def prepare() -> None:
        transcript.read_prompt()
        sound.fill(open_audio())

    try:
        yield Work(prepare)
        yield from transcript.run()
    finally:
        sound.close()


class _Transcript:
    def __init__(self, request: TranscriptionRequest, whisper: Whisper, sound: Spectrogram) -> None:
        self._request = request
        self._whisper = whisper
        self._sound = sound
        vocabulary = whisper.vocabulary
        self._language = request.language if vocabulary.multilingual else ENGLISH
        self._known = self._language is not None
        self._most_context = whisper.shape.text_context // 2 - 1
        self._context: list[int] = []
        self._segments = 0
        self._spoken_until = 0.0
        self._generated = 0

    def read_prompt(self) -> None:
        prompt = self._request.prompt.strip()
        if prompt:
            encoded = self._whisper.vocabulary.encode(f" {prompt}")
            self._context = encoded[-self._most_context :]

    def run(self) -> Steps:
        seek, frames = 0, self._sound.frames
        while seek < frames:
            size = min(self._whisper.shape.frames, frames - seek)
            if self._sound.is_silent(seek, size):
                seek += size
                continue
            seek, segments = yield from self._window(seek, size)
            yield self._update(segments, min(seek, frames))
        yield self._update([], frames)

    def _update(self, segments: Sequence[Segment], done: int) -> TranscriptionUpdate:
        return TranscriptionUpdate(
            segments=tuple(segments),
            seconds=done * SECONDS_PER_FRAME,
            duration=self._sound.duration,
            language=self._language if self._known else None,
            generated=self._generated,
        )

    def _window(self, seek: int, size: int) -> Generator[Ask, Any, tuple[int, list[Segment]]]:
        """What is said in the window, and where the next begins."""
        mel = self._sound.window(seek, size, self._whisper.shape.frames)
        window = yield Encode(mel)
        language = self._language
        if language is None:
            language = yield from self._detect(window)
        opening = self._whisper.vocabulary.opening(language, translate=self._request.translate)
        decoded = yield from self._decode(window, opening, seek)
        if decoded.is_silence:
            return seek + size, []
        self._language, self._known = language, True
        found = cut(decoded.tokens, self._whisper.vocabulary.special.first_stamp, seek, size)
        segments = self._segments_of(found, decoded, seek)
        following = found.seek
        if self._request.words:
            segments = yield from self._time(window, opening, language, segments, size)
            following = self._after_words(found, segments, seek)
        return following, self._keep(segments, decoded)

    def _detect(self, window: Encoded) -> Generator[Ask, Any, str]:
        row = LanguageRow(self._whisper.rules)
        yield Decode(window, [row])
        return row.language

    def _decode(
        self, window: Encoded, opening: tuple[int, ...], seek: int
    ) -> Generator[Ask, Any, Decoded]:
        """The first plausible text, or what came at the last temperature."""
        no_speech: float | None = None
        decoded: Decoded | None = None
        for temperature in self._request.temperatures:
            rows = self._rows(opening, temperature, seek, listens=no_speech is None)
            yield Decode(window, rows)
            if no_speech is None:
                no_speech = rows[0].no_speech
            best = max(rows, key=lambda row: row.score)
            self._generated += sum(len(row.written) for row in rows)
            decoded = self._judged(best, temperature, no_speech or 0.0)
            if decoded.is_plausible:
                break
        assert decoded is not None
        return decoded

    def _rows(
        self, opening: tuple[int, ...], temperature: float, seek: int, *, listens: bool
    ) -> list[Row]:
        """One row without a temperature, else CANDIDATES of them."""
        context = self._whisper.shape.text_context
        special = self._whisper.vocabulary.special
        before = [special.previous, *self._context] if self._context else []
        prompt = [*before, *opening]
        most = min(context // 2, context - len(prompt) + 1)
        seeds = (self._request.seed, seek, round(temperature * 1000))
        return [
            Row(
                self._whisper.rules,
                prompt,
                len(before),
                most=most,
                temperature=temperature,
                seed=(*seeds, candidate),
                listens=listens and candidate == 0,
            )
            for candidate in range(CANDIDATES if temperature else 1)
        ]

    def _judged(self, row: Row, temperature: float, no_speech: float) -> Decoded:
        text = self._whisper.vocabulary.text(row.written).strip()
        return Decoded(
            tokens=tuple(row.written),
            temperature=temperature,
            avg_logprob=row.logprob,
            compression_ratio=compression_ratio(text),
            no_speech_prob=no_speech,
        )

    def _segments_of(self, found: Cut, decoded: Decoded, seek: int) -> list[Segment]:
        return [
            Segment(
                id=0,
                seek=seek,
                start=span.start,
                end=span.end,
                text=self._whisper.vocabulary.text(span.tokens),
                tokens=span.tokens,
                temperature=decoded.temperature,
                avg_logprob=decoded.avg_logprob,
                compression_ratio=decoded.compression_ratio,
                no_speech_prob=decoded.no_speech_prob,
            )
            for span in found.spans
        ]

    def _time(
        self,
        window: Encoded,
        opening: tuple[int, ...],
        language: str,
        segments: list[Segment],
        size: int,
    ) -> Generator[Ask, Any, list[Segment]]:
        """The segments with their words."""
        special = self._whisper.vocabulary.special
        texts = [[token for token in s.tokens if token < special.end] for s in segments]
        text = [token for own in texts for token in own]
        most = self._whisper.shape.text_context - len(opening) - 2
        if not text or len(text) > most:
            return segments
        scores = yield Align(window, (*opening, special.no_stamps, *text, special.end))
        times = yield Work(lambda: token_times(scores, len(opening), size // 2))
        vocabulary = self._whisper.vocabulary
        split = [word for own in texts for word in split_words(own, vocabulary, language)]
        words = timed_words(split, times)
        offset = segments[0].seek * SECONDS_PER_FRAME
        return with_words(segments, words, [len(own) for own in texts], offset, self._spoken_until)

    def _after_words(self, found: Cut, segments: Sequence[Segment], seek: int) -> int:
        """The next window begins behind the last word, if this one did not end with it."""
        spoken = next((s.words[-1].end for s in reversed(segments) if s.words), None)
        if spoken is None:
            return found.seek
        self._spoken_until = spoken
        after = round(spoken / SECONDS_PER_FRAME)
        return found.seek if found.complete or after <= seek else after

    def _keep(self, segments: Iterable[Segment], decoded: Decoded) -> list[Segment]:
        """Drops what says nothing, and remembers the rest for the next window."""
        kept = [one for one in segments if one.start != one.end and one.text.strip()]
        numbered = [replace(one, id=self._segments + place) for place, one in enumerate(kept)]
        self._segments += len(kept)
        self._context += [token for segment in kept for token in segment.tokens]
        if not self._request.condition or decoded.temperature > FREE:
            self._context = []
        del self._context[: -self._most_context]
        return numbered
