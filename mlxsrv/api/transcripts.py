"""A transcript in the form that was asked for."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from mlxsrv.api.schemas.transcriptions import (
    DurationUsage,
    Format,
    TranscriptSegment,
    TranscriptWord,
    VerboseTranscription,
)
from mlxsrv.api.subtitles import cues, srt, vtt
from mlxsrv.core.languages import LANGUAGES
from mlxsrv.core.transcription import Segment, TranscriptionUpdate, Word


@dataclass(slots=True)
class Transcript:
    """What has come so far. `language` is a code; `seconds` of `duration` are done."""

    segments: list[Segment] = field(default_factory=list)
    language: str = "en"
    seconds: float = 0.0
    duration: float = 0.0
    generated: int = 0

    def add(self, updates: Iterable[TranscriptionUpdate]) -> None:
        for update in updates:
            self.segments.extend(update.segments)
            self.language = update.language or self.language
            self.seconds, self.duration = update.seconds, update.duration
            self.generated = update.generated

    @property
    def text(self) -> str:
        """Only ever grows: what came before is how it begins."""
        return "".join(segment.text for segment in self.segments).strip()

    @property
    def usage(self) -> DurationUsage:
        return {"type": "duration", "seconds": math.ceil(self.duration)}

    def subtitles(self, form: Format, *, words: bool) -> str:
        write = srt if form == "srt" else vtt
        return write(cues(self.segments, words=words))

    def verbose(
        self, task: Literal["transcribe", "translate"], *, segments: bool, words: bool
    ) -> VerboseTranscription:
        answer: VerboseTranscription = {
            "task": task,
            "language": LANGUAGES[self.language],
            "duration": round(self.duration, 3),
            "text": self.text,
            "usage": self.usage,
        }
        if segments:
            answer["segments"] = [segment_object(one) for one in self.segments]
        if words:
            answer["words"] = [word for one in self.segments for word in word_objects(one.words)]
        return answer


def segment_object(segment: Segment) -> TranscriptSegment:
    return {
        "id": segment.id,
        "seek": segment.seek,
        "start": round(segment.start, 3),
        "end": round(segment.end, 3),
        "text": segment.text,
        "tokens": list(segment.tokens),
        "temperature": segment.temperature,
        "avg_logprob": segment.avg_logprob,
        "compression_ratio": segment.compression_ratio,
        "no_speech_prob": segment.no_speech_prob,
    }


def word_objects(words: Sequence[Word]) -> list[TranscriptWord]:
    return [
        {"word": word.text.strip(), "start": round(word.start, 3), "end": round(word.end, 3)}
        for word in words
    ]
