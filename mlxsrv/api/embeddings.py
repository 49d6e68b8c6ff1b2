"""`POST /v1/embeddings`."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from contextlib import AsyncExitStack

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from mlxsrv.api.body import StrictRoute
from mlxsrv.api.disconnect import until_disconnect
from mlxsrv.api.documented import responses
from mlxsrv.api.encoders import check_row, computed, lease, too_long, usage
from mlxsrv.api.schemas.embeddings import (
    EmbeddingAnswer,
    EmbeddingRequest,
    EncoderUsage,
    Input,
)
from mlxsrv.api.text import encoded
from mlxsrv.core.encoding import TokenRow
from mlxsrv.core.errors import InvalidRequest
from mlxsrv.core.kinds import Kind
from mlxsrv.engines.embedding import unit_vectors
from mlxsrv.engines.encoder_task import Values
from mlxsrv.engines.encoder_tokenizer import shorten
from mlxsrv.engines.model import EmbeddingModel
from mlxsrv.engines.prompts import prompt_for

MANY_NUMBERS = 50_000
"""Writing more than this as JSON would hold up the other requests' streams."""

router = APIRouter(route_class=StrictRoute, tags=["embeddings"])


@router.post("/v1/embeddings", operation_id="embeddings", responses=responses(EmbeddingAnswer))
async def embeddings(request: Request, body: EmbeddingRequest) -> Response:
    """A vector of length 1 for each input, in their order."""
    async with AsyncExitStack() as held:
        answer = await until_disconnect(request, _answer(request, body, held))
    return Response(answer, media_type="application/json")


async def _answer(request: Request, body: EmbeddingRequest, held: AsyncExitStack) -> bytes:
    model = await lease(request, body.model, Kind.EMBEDDING, EmbeddingModel, held)
    dimensions = _dimensions(body, model)
    prompt = _prompt(body, model)
    size = sum(len(prompt) + len(given.content) for given in body.input)
    rows = await encoded(lambda: _rows(body, model, prompt), size)
    values = await computed(request, model, rows, held)

    def written() -> bytes:
        vectors = unit_vectors(values, dimensions)
        return _write(vectors, model.name, usage(rows), text=body.encoding_format == "base64")

    if len(rows) * dimensions > MANY_NUMBERS:
        return await asyncio.to_thread(written)
    return written()


def _dimensions(body: EmbeddingRequest, model: EmbeddingModel) -> int:
    if body.dimensions is None:
        return model.default_dimensions
    if body.dimensions > model.dimensions:
        raise InvalidRequest(
            f"dimensions: should be at most {model.dimensions}, which is what this model has",
            param="dimensions",
        )
    return body.dimensions


def _prompt(body: EmbeddingRequest, model: EmbeddingModel) -> str:
    return prompt_for(
        model.prompts,
        model.default_prompt,
        input_type=body.input_type,
        prompt_name=body.prompt_name,
    )


def _rows(body: EmbeddingRequest, model: EmbeddingModel, prompt: str) -> list[TokenRow]:
    rows = _encoded(body, model, prompt)
    for place, (given, row) in enumerate(zip(body.input, rows, strict=True)):
        _check(given, row, model)
        if len(row.ids) > model.context_length:
            if not body.truncate:
                raise too_long(model.context_length, len(row.ids), given.path)
            rows[place] = shorten(row, model.context_length, model.tokenizer.closing)
    return rows


def _encoded(body: EmbeddingRequest, model: EmbeddingModel, prompt: str) -> list[TokenRow]:
    tokenizer, pooled = model.tokenizer, model.pool_prompt
    texts = [given.content for given in body.input if isinstance(given.content, str)]
    if texts:
        return tokenizer.texts(texts, prompt=prompt, pool_prompt=pooled)
    ids = (given.content for given in body.input if not isinstance(given.content, str))
    return [tokenizer.ids(given, prompt=prompt, pool_prompt=pooled) for given in ids]


def _check(given: Input, row: TokenRow, model: EmbeddingModel) -> None:
    """Raises InvalidRequest that names the first of the caller's tokens which is none."""
    if not isinstance(given.content, str) and max(given.content) >= model.vocab_size:
        place = next(n for n, id_ in enumerate(given.content) if id_ >= model.vocab_size)
        where = f"{given.path}.{place}"
        raise InvalidRequest(
            f"{where}: token {given.content[place]} is not in this model's vocabulary of "
            f"{model.vocab_size}. Token ids have to come from its own tokenizer; send the text "
            "instead (in LangChain: check_embedding_ctx_length=False)",
            param=where,
        )
    check_row(row, model.vocab_size, given.path)


def _write(vectors: Values, model: str, used: EncoderUsage, *, text: bool) -> bytes:
    """The answer as JSON, one vector at a time: other threads get their turn between them."""
    encodings = _as_base64(vectors) if text else _as_numbers(vectors)
    data = (
        b'{"object":"embedding","index":%d,"embedding":%b}' % (index, encoding)
        for index, encoding in enumerate(encodings)
    )
    return orjson.dumps(
        {
            "object": "list",
            "data": orjson.Fragment(b"[" + b",".join(data) + b"]"),
            "model": model,
            "usage": used,
        }
    )


def _as_numbers(vectors: Values) -> Iterator[bytes]:
    return (orjson.dumps(vector, option=orjson.OPT_SERIALIZE_NUMPY) for vector in vectors)


def _as_base64(vectors: Values) -> Iterator[bytes]:
    """Little-endian 32-bit floats, as the SDKs read them."""
    return (b'"%b"' % base64.b64encode(row.tobytes()) for row in vectors.astype("<f4", copy=False))
