"""`POST /v1/rerank`, in the form that Cohere and Jina share."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import AsyncExitStack

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from mlxsrv.api.body import StrictRoute
from mlxsrv.api.disconnect import until_disconnect
from mlxsrv.api.documented import responses
from mlxsrv.api.encoders import check_row, computed, lease, too_long, usage
from mlxsrv.api.schemas.rerank import RerankAnswer, RerankRequest, RerankResult
from mlxsrv.api.text import encoded, json_answer
from mlxsrv.core.encoding import TokenRow
from mlxsrv.core.kinds import Kind
from mlxsrv.engines.encoder_tokenizer import shorten
from mlxsrv.engines.model import RerankModel

router = APIRouter(route_class=StrictRoute, tags=["rerank"])


@router.post("/v1/rerank", operation_id="rerank", responses=responses(RerankAnswer))
@router.post("/rerank", include_in_schema=False)
@router.post("/v1/reranking", include_in_schema=False)
@router.post("/v2/rerank", include_in_schema=False)
async def rerank(request: Request, body: RerankRequest) -> Response:
    """How relevant each document is to the query, from 0 to 1, the most relevant first."""
    async with AsyncExitStack() as held:
        return json_answer(await until_disconnect(request, _answer(request, body, held)))


async def _answer(request: Request, body: RerankRequest, held: AsyncExitStack) -> RerankAnswer:
    model = await lease(request, body.model, Kind.RERANK, RerankModel, held)
    size = sum(map(len, body.documents)) + len(body.query) * len(body.documents)
    rows = await encoded(lambda: _rows(body, model), size)
    scores = await computed(request, model, rows, held)
    return {
        "id": f"rerank-{secrets.token_hex(12)}",
        "object": "list",
        "model": model.name,
        "results": _results(scores.tolist(), body),
        "usage": usage(rows),
    }


def _rows(body: RerankRequest, model: RerankModel) -> list[TokenRow]:
    """The query with each document, of which as much is read as there is room for."""
    bare, *rows = model.reader.rows(body.query, ["", *body.documents], body.instruction)
    if len(bare.ids) >= model.context_length:
        raise too_long(model.context_length, len(bare.ids), "query")
    limit = model.context_length
    if body.max_tokens_per_doc is not None:
        limit = min(limit, len(bare.ids) + body.max_tokens_per_doc)
    for place, row in enumerate(rows):
        param = f"documents.{place}"
        check_row(row, model.vocab_size, param)
        if len(row.ids) > model.context_length and body.truncate is False:
            raise too_long(model.context_length, len(row.ids), param)
        rows[place] = shorten(row, limit, model.reader.closing)
    return rows


def _results(scores: Sequence[float], body: RerankRequest) -> list[RerankResult]:
    """The best first; of equal ones, the one that was given first.

    Documents are repeated only if asked for, as Cohere's API does: they can be large, and
    clients have them.
    """
    order = sorted(range(len(scores)), key=lambda index: -scores[index])
    return [_result(index, scores[index], body) for index in order[: body.top_n]]


def _result(index: int, score: float, body: RerankRequest) -> RerankResult:
    result: RerankResult = {"index": index, "relevance_score": score}
    if body.return_documents:
        result["document"] = {"text": body.documents[index]}
    return result
