"""`POST /v1/embeddings`: request and answer."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, PlainValidator
from typing_extensions import TypedDict

from mlxsrv.api.schemas.completions import MAX_TOKEN_ID, token_ids
from mlxsrv.api.schemas.fields import Body, Flag, Integer, Text
from mlxsrv.core.errors import InvalidRequest

MAX_ROWS = 10_000
"""Inputs, or documents, of one request. OpenAI stops at 2048, but indexers send a local server
more."""


class Input(NamedTuple):
    """One input, as text or as token ids, and where it stands in the body."""

    path: str
    content: str | tuple[int, ...]


Inputs = tuple[Input, ...]


def _inputs(value: Any) -> Inputs:
    """A string, token ids, or a list of either; see `completions.Prompts`."""
    if isinstance(value, str):
        return (_input(value, "input", str),)
    if not isinstance(value, list):
        reason = "should be a string, a list of strings, or token ids"
        raise InvalidRequest(f"input: {reason}", param="input")
    if value and not isinstance(value[0], str | list):
        return (_input(value, "input", list),)
    check_count(value, "input")
    kind = type(value[0])
    return tuple(_input(item, f"input.{place}", kind) for place, item in enumerate(value))


def _input(value: Any, path: str, kind: type) -> Input:
    if not isinstance(value, kind):
        what = "a string" if kind is str else "a list of token ids"
        raise InvalidRequest(f"{path}: should be {what}, like the first input", param=path)
    content: Any = value
    if not content:
        raise InvalidRequest(f"{path}: is empty", param=path)
    return Input(path, content if kind is str else _ids(content, path))


def _ids(value: list[Any], path: str) -> tuple[int, ...]:
    """What the fast check refuses, the slow one names."""
    if set(map(type, value)) == {int} and min(value) >= 0 and max(value) <= MAX_TOKEN_ID:
        return tuple(value)
    return token_ids(value, path)


def check_count(value: list[Any], path: str) -> None:
    """Raises InvalidRequest for a list that is empty or too long."""
    if not value:
        raise InvalidRequest(f"{path}: is empty", param=path)
    if len(value) > MAX_ROWS:
        raise InvalidRequest(f"{path}: should have at most {MAX_ROWS} items", param=path)


class EmbeddingRequest(Body):
    model: Text | None = Field(None, description="served name or alias")
    input: Annotated[
        Inputs,
        PlainValidator(
            _inputs, json_schema_input_type=str | list[str] | list[int] | list[list[int]]
        ),
    ] = Field(description=f"texts or token ids, at most {MAX_ROWS} of them")
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[Integer, Field(ge=1)] | None = Field(
        None, description="numbers per vector, which is cut and scaled to length 1 again"
    )
    truncate: Flag | None = Field(None, description="cut an input that is too long")
    input_type: Text | None = Field(
        None, description="query or document: puts the model's own prompt before each input"
    )
    prompt_name: Text | None = Field(None, description="the exact name of one of its prompts")


class EmbeddingObject(TypedDict):
    """`embedding` is a list of numbers, or base64 of little-endian 32-bit floats."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EncoderUsage(TypedDict):
    prompt_tokens: int
    total_tokens: int


class EmbeddingAnswer(TypedDict):
    object: Literal["list"]
    data: list[EmbeddingObject]
    model: str
    usage: EncoderUsage
