"""The fields that chat and completion requests share."""

from __future__ import annotations

import re
from typing import Annotated, Any, Self

from pydantic import Field, PlainValidator, model_validator

from mlxsrv.api.schemas import unserved
from mlxsrv.api.schemas.fields import Body, Flag, Integer, Number, Text
from mlxsrv.core.errors import InvalidRequest

DEFAULT_MAX_TOKENS = 2048
MAX_STOPS = 16
MAX_BIAS = 100
MAX_STOP_CHARACTERS = 1024
"""Matching costs their length at every token, so it has to be bounded."""

_TOKEN_ID = re.compile(r"0|[1-9][0-9]{0,9}")


def _stops(value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list):
        raise InvalidRequest("stop: should be a string or a list of strings", param="stop")
    if len(items) > MAX_STOPS:
        raise InvalidRequest(f"stop: should hold at most {MAX_STOPS} strings", param="stop")
    for place, item in enumerate(items):
        path = "stop" if isinstance(value, str) else f"stop.{place}"
        if not isinstance(item, str):
            raise InvalidRequest(f"{path}: should be a string", param=path)
        if not 1 <= len(item) <= MAX_STOP_CHARACTERS:
            reason = f"should have 1 to {MAX_STOP_CHARACTERS} characters"
            raise InvalidRequest(f"{path}: {reason}", param=path)
    return tuple(items)


def _logit_bias(value: Any) -> dict[int, float] | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise InvalidRequest("logit_bias: should be an object", param="logit_bias")
    for key, bias in value.items():
        if not _TOKEN_ID.fullmatch(key):
            raise InvalidRequest(
                f"logit_bias: the key {key[:40]!r} is not a token id", param="logit_bias"
            )
        if isinstance(bias, bool) or not isinstance(bias, int | float) or abs(bias) > MAX_BIAS:
            raise InvalidRequest(
                f"logit_bias: the bias of token {key} should be a number "
                f"from -{MAX_BIAS} to {MAX_BIAS}",
                param="logit_bias",
            )
    return {int(key): float(bias) for key, bias in value.items()}


Stops = Annotated[
    tuple[str, ...] | None,
    PlainValidator(_stops, json_schema_input_type=str | list[str] | None),
]
LogitBias = Annotated[
    dict[int, float] | None,
    PlainValidator(_logit_bias, json_schema_input_type=dict[str, float] | None),
]
Penalty = Annotated[Number, Field(ge=-2, le=2)]


class StreamOptions(Body):
    include_usage: Flag | None = Field(None, description="end with a chunk that holds `usage`")


class GenerationRequest(Body):
    """Null stands for a field that was left out, everywhere."""

    model: Text | None = Field(None, description="served name or alias")
    temperature: Annotated[Number, Field(ge=0, le=2)] | None = None
    top_p: Annotated[Number, Field(gt=0, le=1)] | None = None
    top_k: Annotated[Integer, Field(ge=-1)] | None = Field(None, description="0 or -1: off")
    min_p: Annotated[Number, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[Number, Field(gt=0, le=10)] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logit_bias: LogitBias = Field(None, description="token id → bias from -100 to 100")
    seed: Annotated[Integer, Field(ge=-(2**63), lt=2**64)] | None = None
    n: Annotated[Integer, Field(ge=1, le=128)] | None = None
    stop: Stops = Field(None, description=f"a string, or at most {MAX_STOPS}")
    max_completion_tokens: Annotated[Integer, Field(ge=1)] | None = None
    ignore_eos: Flag | None = Field(None, description="go on to max_tokens; for benchmarks")
    stream: Flag | None = None
    stream_options: StreamOptions | None = None

    regex: Any = Field(None, description="not served yet")
    grammar: Any = Field(None, description="not served yet")
    choice: Any = Field(None, description="not served yet")
    response_format: Any = Field(None, description="only `text` is served yet")

    @model_validator(mode="after")
    def _check_common(self) -> Self:
        for field in ("regex", "grammar", "choice"):
            unserved.refuse_if_asked(field, getattr(self, field))
        unserved.refuse_formats("response_format", self.response_format)
        if self.stream_options is not None and not self.stream:
            raise InvalidRequest(
                "stream_options: is only allowed when `stream` is true", param="stream_options"
            )
        return self

    @property
    def include_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)
