"""`POST /v1/completions`: the request."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple, Self

from pydantic import Field, PlainValidator, model_validator

from mlxsrv.api.schemas.fields import Flag, Integer, Text
from mlxsrv.api.schemas.generation import GenerationRequest
from mlxsrv.core.errors import InvalidRequest

MAX_CHOICES = 2048
"""Prompts of one request times the choices of each."""

MAX_TOKEN_ID = 2**31 - 1


class Prompt(NamedTuple):
    """One prompt, as text or as token ids, and where it stands in the body."""

    path: str
    content: str | tuple[int, ...]


Prompts = tuple[Prompt, ...]


def token_ids(value: list[Any], path: str) -> tuple[int, ...]:
    """Raises InvalidRequest that names the first item that is no token id."""
    for place, item in enumerate(value):
        if type(item) is not int or not 0 <= item <= MAX_TOKEN_ID:
            where = f"{path}.{place}"
            raise InvalidRequest(f"{where}: should be a token id", param=where)
    return tuple(value)


def _prompts(value: Any) -> Prompts:
    """A string, token ids, or a list of either. Checked here and not by a union of types,
    which would report every item of every branch."""
    if isinstance(value, str):
        return (Prompt("prompt", value),)
    if not isinstance(value, list):
        reason = "should be a string, a list of strings, or token ids"
        raise InvalidRequest(f"prompt: {reason}", param="prompt")
    if not value:
        raise InvalidRequest("prompt: is empty", param="prompt")
    if not isinstance(value[0], str | list):
        return (Prompt("prompt", token_ids(value, "prompt")),)
    inner = _text if isinstance(value[0], str) else _ids
    paths = (f"prompt.{place}" for place in range(len(value)))
    return tuple(inner(item, path) for item, path in zip(value, paths, strict=True))


def _text(value: Any, path: str) -> Prompt:
    if not isinstance(value, str):
        raise InvalidRequest(f"{path}: should be a string", param=path)
    return Prompt(path, value)


def _ids(value: Any, path: str) -> Prompt:
    if not isinstance(value, list):
        raise InvalidRequest(f"{path}: should be a list of token ids", param=path)
    if not value:
        raise InvalidRequest(f"{path}: is empty", param=path)
    return Prompt(path, token_ids(value, path))


class CompletionRequest(GenerationRequest):
    prompt: Annotated[
        Prompts,
        PlainValidator(
            _prompts, json_schema_input_type=str | list[str] | list[int] | list[list[int]]
        ),
    ]
    max_tokens: Annotated[Integer, Field(ge=0)] | None = Field(
        None, description="0 with `echo` only scores the prompt"
    )
    logprobs: Annotated[Integer, Field(ge=0, le=5)] | None = None
    echo: Flag | None = None
    suffix: Text | None = Field(None, description="what follows the text to fill in")
    best_of: Annotated[Integer, Field(ge=1, le=128)] | None = None

    @model_validator(mode="after")
    def _check_completion(self) -> Self:
        if self.max_tokens == 0 and not self.echo and self.max_completion_tokens is None:
            raise InvalidRequest("max_tokens: 0 is only allowed with `echo`", param="max_tokens")
        if self.candidates < self.choices:
            raise InvalidRequest("best_of: should be at least n", param="best_of")
        if self.candidates > self.choices and self.stream:
            raise InvalidRequest("best_of: can't be streamed", param="best_of")
        if len(self.prompt) * self.candidates > MAX_CHOICES:
            raise InvalidRequest(
                f"prompt: prompts times choices should be at most {MAX_CHOICES}", param="prompt"
            )
        if self.suffix:
            self._check_suffix()
        return self

    def _check_suffix(self) -> None:
        if not all(isinstance(prompt.content, str) for prompt in self.prompt):
            raise InvalidRequest("suffix: needs prompts that are strings", param="suffix")
        if self.echo and self.logprobs is not None:
            raise InvalidRequest(
                "suffix: can't be combined with `echo` and `logprobs`", param="suffix"
            )

    @property
    def choices(self) -> int:
        """Choices wanted per prompt."""
        return 1 if self.n is None else self.n

    @property
    def candidates(self) -> int:
        """Choices generated per prompt."""
        return self.choices if self.best_of is None else self.best_of

    @property
    def scores_only(self) -> bool:
        return self.max_tokens == 0 and self.max_completion_tokens is None
