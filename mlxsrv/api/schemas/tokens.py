"""`POST /v1/tokenize` and `/v1/detokenize`: requests and answers."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired, Self

from pydantic import Field, PlainValidator, model_validator
from typing_extensions import TypedDict

from mlxsrv.api.schemas.chat import Messages, for_template
from mlxsrv.api.schemas.completions import token_ids
from mlxsrv.api.schemas.fields import Body, Flag, Text
from mlxsrv.core.errors import InvalidRequest

SOURCES = ("input", "text", "prompt", "content", "messages")


class TokenizeRequest(Body):
    """One of `input`, `text`, `prompt`, `content` and `messages` says what is counted."""

    model: Text | None = None
    input: Text | None = None
    text: Text | None = None
    prompt: Text | None = None
    content: Text | None = None
    messages: Messages | None = None
    add_special_tokens: Flag | None = Field(None, description="for a text; true if left out")
    return_token_strings: Flag | None = None

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        given = [name for name in SOURCES if getattr(self, name) is not None]
        if len(given) != 1:
            fault = given[1] if given else SOURCES[0]
            raise InvalidRequest(
                f"{fault}: exactly one of {', '.join(SOURCES)} should be given", param=fault
            )
        if self.messages is not None:
            for_template(self.messages)
        return self

    @property
    def given_text(self) -> str:
        texts = (self.input, self.text, self.prompt, self.content)
        return next((text for text in texts if text is not None), "")


class TokenizeAnswer(TypedDict):
    tokens: list[int]
    count: int
    max_model_len: int
    token_strings: NotRequired[list[str]]


def _tokens(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list):
        raise InvalidRequest("tokens: should be a list of token ids", param="tokens")
    return token_ids(value, "tokens")


class DetokenizeRequest(Body):
    model: Text | None = None
    tokens: Annotated[tuple[int, ...], PlainValidator(_tokens, json_schema_input_type=list[int])]


class DetokenizeAnswer(TypedDict):
    text: str
