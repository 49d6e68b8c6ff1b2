"""`POST /v1/rerank`: request and answer, in the form that Cohere and Jina share."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired, Self

from pydantic import Field, PlainValidator, model_validator
from typing_extensions import TypedDict

from mlxsrv.api.schemas.embeddings import MAX_ROWS, EncoderUsage, check_count
from mlxsrv.api.schemas.fields import Body, Flag, Integer, Text
from mlxsrv.api.schemas.unserved import refuse
from mlxsrv.core.errors import InvalidRequest


class Document(TypedDict):
    text: str


def _documents(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise InvalidRequest("documents: should be a list", param="documents")
    check_count(value, "documents")
    return tuple(_text(item, f"documents.{place}") for place, item in enumerate(value))


def _query(value: Any) -> str:
    query = _text(value, "query")
    if not query:
        raise InvalidRequest("query: is empty", param="query")
    return query


def _text(value: Any, path: str) -> str:
    """A string, or an object that has it under `text`."""
    text = value.get("text") if isinstance(value, dict) else value
    if not isinstance(text, str):
        reason = "should be a string, or an object with a string `text`"
        raise InvalidRequest(f"{path}: {reason}", param=path)
    return text


class RerankRequest(Body):
    model: Text | None = Field(None, description="served name or alias")
    query: Annotated[str, PlainValidator(_query, json_schema_input_type=str | Document)]
    documents: Annotated[
        tuple[str, ...],
        PlainValidator(_documents, json_schema_input_type=list[str | Document]),
    ] = Field(description=f"at most {MAX_ROWS}")
    top_n: Annotated[Integer, Field(ge=1)] | None = Field(
        None, description="answer with the best so many (default: all)"
    )
    return_documents: Flag | None = None
    truncate: Flag | None = Field(
        None, description="cut documents that are too long (default); false: refuse them"
    )
    max_tokens_per_doc: Annotated[Integer, Field(ge=1)] | None = None
    instruction: Text | None = Field(
        None, description="what makes a document relevant, for models that take one"
    )
    rank_fields: Any = Field(None, description="only `text` is served")

    @model_validator(mode="after")
    def _check_fields(self) -> Self:
        if self.rank_fields not in (None, ["text"]):
            raise refuse("rank_fields")
        return self


class RerankResult(TypedDict):
    index: int
    relevance_score: float
    document: NotRequired[Document]


class RerankAnswer(TypedDict):
    id: str
    object: Literal["list"]
    model: str
    results: list[RerankResult]
    usage: EncoderUsage
