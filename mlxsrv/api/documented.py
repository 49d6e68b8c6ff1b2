"""What the OpenAPI document says of a route's answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from mlxsrv.api.schemas.answers import ErrorEnvelope, PlainError
from mlxsrv.media.audio_coder import CODINGS
from mlxsrv.media.image_encode import MEDIA_TYPES

Responses = dict[int | str, dict[str, Any]]


def responses(answer: Any, *, streams: bool = False, plain_errors: bool = False) -> Responses:
    """`default` stands for every failure, which also keeps FastAPI's own 422, never sent
    here, out of the document."""
    success: dict[str, Any] = {"model": answer, "description": "The answer"}
    if streams:
        success["content"] = {"text/event-stream": {"schema": {"type": "string"}}}
        success["description"] += "; with `stream`, as server-sent events"
    error = PlainError if plain_errors else ErrorEnvelope
    return {200: success, "default": {"model": error, "description": "What went wrong"}}


def sound() -> Responses:
    """Sound in any of the formats, or events that hold it in pieces."""
    kinds = [coding.media_type for coding in CODINGS.values()] + ["audio/wav", "audio/pcm"]
    binary = {"schema": {"type": "string", "format": "binary"}}
    content = dict.fromkeys(kinds, binary)
    content["text/event-stream"] = {"schema": {"type": "string"}}
    success = {"description": "The sound, while it is made", "content": content}
    return {200: success, "default": {"model": ErrorEnvelope, "description": "What went wrong"}}


def pictures(answer: Any, *, streams: bool = True, plain_errors: bool = False) -> Responses:
    """Pictures in JSON, or the first of them as a file."""
    found = responses(answer, streams=streams, plain_errors=plain_errors)
    binary = {"schema": {"type": "string", "format": "binary"}}
    content = found[200].setdefault("content", {})
    content.update(dict.fromkeys(MEDIA_TYPES.values() if streams else ["image/png"], binary))
    return found


def form_body(fields: type[BaseModel], *files: str, optional: Sequence[str] = ()) -> dict[str, Any]:
    """A multipart body of these fields, as text, and these files."""
    schema = fields.model_json_schema()
    binary = {"type": "string", "format": "binary"}
    properties = {**dict.fromkeys([*files, *optional], binary), **schema["properties"]}
    required = [*files, *schema.get("required", ())]
    form = {"type": "object", "properties": properties, "required": required}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}}}}
