"""Speech: the request in OpenAI's and Cake's shape, its events, and the list of voices."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, PlainValidator, model_validator
from typing_extensions import TypedDict

from mlxsrv.api.schemas.fields import Body, Integer, Number, Text
from mlxsrv.core.errors import InvalidRequest

Format = Literal["wav", "mp3", "opus", "aac", "flac", "pcm"]

MAX_FRAMES = 100_000
"""Three and a half hours."""


def _voice(value: Any) -> str | None:
    """A name, or an object that holds one, as OpenAI writes custom voices."""
    if isinstance(value, dict):
        value = value.get("id", 0)
    if value is None or isinstance(value, str):
        return value
    raise InvalidRequest("voice: should be a name, or an object with an `id`", param="voice")


class SpeechBody(Body):
    """Null stands for a field that was left out, everywhere."""

    model: Text | None = Field(None, description="served name or alias")
    input: Text = Field(description="the text")
    voice: Annotated[
        str | None,
        PlainValidator(_voice, json_schema_input_type=str | dict[str, str] | None),
    ] = Field(None, description="see /v1/audio/voices; unknown names mean the default voice")
    voice_data: Text | None = Field(None, description="a recording whose voice to clone, base64")
    voice_path: Text | None = Field(None, description="the same as a file in the voices folder")
    response_format: Format | None = None
    speed: Annotated[Number, Field(ge=0.25, le=4)] | None = None
    instructions: Text | None = Field(None, description="how to speak, for models that heed it")
    cfg_scale: Annotated[Number, Field(ge=1, le=3)] | None = None
    max_frames: Annotated[Integer, Field(ge=1, le=MAX_FRAMES)] | None = Field(
        None, description="longest answer, in frames of 133 ms"
    )
    diffusion_steps: Annotated[Integer, Field(ge=1, le=100)] | None = None
    stream_format: Literal["audio", "sse"] | None = None
    seed: Annotated[Integer, Field(ge=-(2**63), lt=2**64)] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.input.strip():
            raise InvalidRequest("input: is empty", param="input")
        if self.voice_data is not None and self.voice_path is not None:
            raise InvalidRequest("voice_path: voice_data is given, too", param="voice_path")
        return self

    @property
    def streams_events(self) -> bool:
        return self.stream_format == "sse"


class SpeechUsage(TypedDict):
    """Characters in, frames of 133 ms out."""

    input_tokens: int
    output_tokens: int
    total_tokens: int


class VoiceObject(TypedDict):
    id: str
    language: str
    model: str


class VoiceList(TypedDict):
    voices: list[VoiceObject]
