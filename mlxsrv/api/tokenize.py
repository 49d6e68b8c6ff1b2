"""`POST /v1/tokenize` and `POST /v1/detokenize`."""

from __future__ import annotations

from contextlib import AsyncExitStack

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from mlxsrv.api.body import StrictRoute
from mlxsrv.api.disconnect import until_disconnect
from mlxsrv.api.documented import responses
from mlxsrv.api.limits import admit
from mlxsrv.api.logprobs import token_text
from mlxsrv.api.schemas.chat import for_template
from mlxsrv.api.schemas.tokens import (
    DetokenizeAnswer,
    DetokenizeRequest,
    TokenizeAnswer,
    TokenizeRequest,
)
from mlxsrv.api.text import check_vocabulary, encoded, json_answer, lease
from mlxsrv.core.kinds import Kind
from mlxsrv.engines.model import TextModel

router = APIRouter(route_class=StrictRoute, tags=["text"])


@router.post("/v1/tokenize", operation_id="tokenize", responses=responses(TokenizeAnswer))
async def tokenize(request: Request, body: TokenizeRequest) -> Response:
    """The token ids of a text, or of a conversation as the model's chat template writes it."""
    async with AsyncExitStack() as held:
        model = await until_disconnect(request, lease(request, body.model, held, prefer=Kind.CHAT))
        admit(request)
        return json_answer(await _tokenized(body, model))


async def _tokenized(body: TokenizeRequest, model: TextModel) -> TokenizeAnswer:
    tokenizer = model.tokenizer
    if body.messages is not None:
        messages = for_template(body.messages)
        size = sum(len(message["content"]) for message in messages)
        ids = await encoded(lambda: tokenizer.encode_chat(messages, template_kwargs={}), size)
    else:
        text = body.given_text
        special = body.add_special_tokens is not False
        ids = await encoded(lambda: tokenizer.encode(text, add_special_tokens=special), len(text))
    answer: TokenizeAnswer = {
        "tokens": ids,
        "count": len(ids),
        "max_model_len": model.context_length,
    }
    if body.return_token_strings:
        answer["token_strings"] = [token_text(tokenizer.piece(id_)) for id_ in ids]
    return answer


@router.post("/v1/detokenize", operation_id="detokenize", responses=responses(DetokenizeAnswer))
async def detokenize(request: Request, body: DetokenizeRequest) -> Response:
    """The text that token ids stand for."""
    async with AsyncExitStack() as held:
        model = await until_disconnect(request, lease(request, body.model, held, prefer=Kind.CHAT))
        check_vocabulary(model, body.tokens, "tokens", given=True)
        admit(request)
        # A token has a few characters, so fewer tokens than characters count as long.
        size = len(body.tokens) * 4
        text = await encoded(lambda: model.tokenizer.decode(body.tokens), size)
        answer: DetokenizeAnswer = {"text": text}
        return json_answer(answer)
