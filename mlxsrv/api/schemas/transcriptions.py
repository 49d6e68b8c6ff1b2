"""Transcriptions: the fields of the multipart forms, and the answers, in OpenAI's shapes."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired, Self

from pydantic import BeforeValidator, Field, model_validator
from typing_extensions import TypedDict

from mlxsrv.api.schemas.fields import Body
from mlxsrv.api.schemas.unserved import refuse
from mlxsrv.core.errors import InvalidRequest
from mlxsrv.core.languages import language_code

Format = Literal["json", "text", "srt", "vtt", "verbose_json"]
Granularity = Literal["segment", "word"]

TIMED: frozenset[Format] = frozenset({"srt", "vtt", "verbose_json"})
"""Formats that say when something was said."""

LISTS = {
    "timestamp_granularities[]": "timestamp_granularities",
    "timestamp_granularities": "timestamp_granularities",
    "include[]": "include",
    "include": "include",
    "known_speaker_names[]": "known_speaker_names",
    "known_speaker_references[]": "known_speaker_references",
}
"""Fields that may come more than once, and what they are called here."""

TEMPERATURE_STEP = 0.2


def _language(value: Any) -> Any:
    """A code, by code or name; None for `auto`."""
    if not isinstance(value, str) or value.strip().lower() == "auto":
        return None
    code = language_code(value)
    if code is None:
        raise InvalidRequest(
            f"language: {value[:40]!r} is not a language that Whisper knows: send an ISO 639-1 "
            "code such as 'en'",
            param="language",
        )
    return code


Language = Annotated[str | None, BeforeValidator(_language)]
Temperature = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class TranscriptionFields(Body):
    """What a recording is to become. All come as text in a form."""

    model: str | None = None
    prompt: str = ""
    response_format: Format = "json"
    temperature: Temperature = 0.0
    stream: bool = False
    language: Language = None
    timestamp_granularities: tuple[Granularity, ...] = ()
    include: tuple[str, ...] = ()
    chunking_strategy: str | None = None
    known_speaker_names: tuple[str, ...] = ()
    known_speaker_references: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("include", "known_speaker_names", "known_speaker_references"):
            if getattr(self, name):
                raise refuse(name)
        if self.timestamp_granularities and self.response_format not in TIMED:
            raise InvalidRequest(
                "timestamp_granularities: needs response_format verbose_json, srt or vtt",
                param="timestamp_granularities",
            )
        return self

    @property
    def temperatures(self) -> tuple[float, ...]:
        """0 lets the server go on to higher ones where the text is not plausible."""
        return ladder(self.temperature, 0 if self.temperature else TEMPERATURE_STEP)

    @property
    def condition(self) -> bool:
        """Whether the model is shown what it wrote before."""
        return True

    @property
    def words(self) -> bool:
        return "word" in self.timestamp_granularities

    @property
    def segments(self) -> bool:
        return "segment" in self.timestamp_granularities or not self.timestamp_granularities


class InferenceFields(TranscriptionFields):
    """whisper.cpp's, with its defaults; what is not named here is accepted and does nothing."""

    translate: bool = False
    max_context: Annotated[int, Field(ge=-1)] = -1
    temperature_inc: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = TEMPERATURE_STEP

    @property
    def temperatures(self) -> tuple[float, ...]:
        return ladder(self.temperature, self.temperature_inc)

    @property
    def condition(self) -> bool:
        """Other numbers than 0 mean as much of the earlier text as the model takes."""
        return self.max_context != 0


def ladder(first: float, step: float) -> tuple[float, ...]:
    """Temperatures from `first` up to 1, `step` apart; `step` 0 gives the one."""
    count = int((1 - first) / step + 1e-6) if step else 0
    return tuple(round(first + number * step, 3) for number in range(count + 1))


class DurationUsage(TypedDict):
    type: Literal["duration"]
    seconds: int


class Transcription(TypedDict):
    text: str
    usage: NotRequired[DurationUsage]


class TranscriptWord(TypedDict):
    word: str
    start: float
    end: float


class TranscriptSegment(TypedDict):
    id: int
    seek: int
    start: float
    end: float
    text: str
    tokens: list[int]
    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float
    words: NotRequired[list[TranscriptWord]]


class VerboseTranscription(TypedDict):
    task: Literal["transcribe", "translate"]
    language: str
    duration: float
    text: str
    segments: NotRequired[list[TranscriptSegment]]
    words: NotRequired[list[TranscriptWord]]
    usage: DurationUsage
