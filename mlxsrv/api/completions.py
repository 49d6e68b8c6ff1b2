"""`POST /v1/completions`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from mlxsrv.api.body import StrictRoute
from mlxsrv.api.completionchoices import Echo, Writer, best, collect, score_echoes
from mlxsrv.api.disconnect import until_disconnect
from mlxsrv.api.documented import responses
from mlxsrv.api.schemas.answers import Completion
from mlxsrv.api.schemas.completions import CompletionRequest, Prompt
from mlxsrv.api.sse import open_stream
from mlxsrv.api.text import (
    HeldEvents,
    Running,
    check_vocabulary,
    encoded,
    json_answer,
    lease,
    sampling,
    start,
    token_budget,
)
from mlxsrv.core.errors import InvalidRequest
from mlxsrv.core.kinds import Kind
from mlxsrv.core.text import TextRequest
from mlxsrv.engines.model import TextModel

router = APIRouter(route_class=StrictRoute, tags=["text"])


@router.post(
    "/v1/completions",
    operation_id="completions",
    responses=responses(Completion, streams=True),
)
async def completions(request: Request, body: CompletionRequest) -> Response:
    """Continues one or several prompts, whole or as a stream of chunks."""
    async with AsyncExitStack() as held:
        running, echoes = await until_disconnect(request, _start(request, body, held))
        if not body.stream:
            return json_answer(await until_disconnect(request, _whole(running, echoes, body)))
        events = HeldEvents(_events(running, echoes, body), held.pop_all())
        return await open_stream(request, events)


async def _start(
    request: Request, body: CompletionRequest, held: AsyncExitStack
) -> tuple[Running, list[Echo]]:
    model = await lease(request, body.model, held, prefer=Kind.COMPLETION)
    wanted = await _text_request(body, model)
    running = start(request, model, wanted, held, prefix="cmpl", generates=not body.scores_only)
    return running, await score_echoes(running, body)


async def _text_request(body: CompletionRequest, model: TextModel) -> TextRequest:
    how = sampling(body, model)
    size = sum(len(prompt.content) for prompt in body.prompt)
    prompts = await encoded(lambda: _encode(body, model), size)
    asked = body.max_completion_tokens
    asked = body.max_tokens if asked is None else asked
    ranks = body.candidates > body.choices
    return TextRequest(
        prompts=prompts,
        max_tokens=token_budget(model, prompts, asked, param="prompt"),
        sampling=how,
        n=body.candidates,
        seed=body.seed,
        stop=body.stop or (),
        ignore_eos=bool(body.ignore_eos),
        top_logprobs=0 if ranks and body.logprobs is None else body.logprobs,
        starts_text=all(prompt.content == "" for prompt in body.prompt),
        adapter=model.adapter,
    )


def _encode(body: CompletionRequest, model: TextModel) -> tuple[tuple[int, ...], ...]:
    prompts = []
    for prompt in body.prompt:
        ids = _ids(prompt, body.suffix, model)
        if not ids:
            raise InvalidRequest(
                f"{prompt.path}: is empty, and this model has no token to begin a text with",
                param=prompt.path,
            )
        given = not isinstance(prompt.content, str)
        check_vocabulary(model, ids, prompt.path, given=given)
        prompts.append(ids)
    return tuple(prompts)


def _ids(prompt: Prompt, suffix: str | None, model: TextModel) -> tuple[int, ...]:
    if not isinstance(prompt.content, str):
        return prompt.content
    if suffix:
        return tuple(model.tokenizer.encode_infill(prompt.content, suffix))
    return tuple(model.tokenizer.encode(prompt.content))


async def _whole(running: Running, echoes: list[Echo], body: CompletionRequest) -> Completion:
    choices = await collect(running)
    if body.candidates > body.choices:
        choices = best(choices, body.candidates, body.choices)
    return {
        "id": running.id,
        "object": "text_completion",
        "created": running.created,
        "model": running.model.name,
        "choices": [
            choice.answer(index, running, echoes[index // body.choices], top=body.logprobs)
            for index, choice in enumerate(choices)
        ],
        "usage": running.tally.usage(running.stream),
        "timings": running.tally.timings(running.stream),
    }


async def _events(
    running: Running, echoes: list[Echo], body: CompletionRequest
) -> AsyncGenerator[bytes, None]:
    """Echoes wait for the first token, so that a failure before it has a status."""
    writer = Writer(running, echoes, top=body.logprobs, include_usage=body.include_usage)
    out = writer.opening()
    if running.stream is None:
        yield b"".join(out) + writer.unstarted()
    else:
        async for deltas in running.stream:
            running.tally.see(deltas)
            for delta in deltas:
                writer.write(delta, out)
            yield b"".join(out)
            out = []
    yield writer.closing()
