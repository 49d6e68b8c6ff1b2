"""`POST /v1/chat/completions` and its alias under `/api`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from mlxsrv.api.body import StrictRoute
from mlxsrv.api.chatchunks import ChatChunkWriter
from mlxsrv.api.disconnect import until_disconnect
from mlxsrv.api.documented import responses
from mlxsrv.api.logprobs import ChatLogprobWriter
from mlxsrv.api.schemas.answers import AnswerMessage, ChatChoice, ChatCompletion
from mlxsrv.api.schemas.chat import ChatRequest, for_template
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
from mlxsrv.core.kinds import Kind
from mlxsrv.core.text import FinishReason, TextDelta, TextRequest, TokenLogprob
from mlxsrv.engines.model import TextModel

router = APIRouter(route_class=StrictRoute, tags=["text"])


@router.post(
    "/v1/chat/completions",
    operation_id="chat_completions",
    responses=responses(ChatCompletion, streams=True),
)
@router.post(
    "/api/v1/chat/completions",
    operation_id="chat_completions_alias",
    responses=responses(ChatCompletion, streams=True, plain_errors=True),
)
async def chat_completions(request: Request, body: ChatRequest) -> Response:
    """Answers a conversation, whole or as a stream of chunks."""
    async with AsyncExitStack() as held:
        running = await until_disconnect(request, _start(request, body, held))
        if not body.stream:
            return json_answer(await until_disconnect(request, _whole(running)))
        events = HeldEvents(_events(running, body), held.pop_all())
        return await open_stream(request, events)


async def _start(request: Request, body: ChatRequest, held: AsyncExitStack) -> Running:
    model = await lease(request, body.model, held, prefer=Kind.CHAT)
    wanted = await _text_request(body, model)
    return start(request, model, wanted, held, prefix="chatcmpl")


async def _text_request(body: ChatRequest, model: TextModel) -> TextRequest:
    how = sampling(body, model)
    messages = for_template(body.messages)
    prompt = tuple(
        await encoded(
            lambda: model.tokenizer.encode_chat(messages, template_kwargs=body.template_variables),
            sum(len(message["content"]) for message in messages),
        )
    )
    check_vocabulary(model, prompt, "messages")
    asked = body.max_completion_tokens
    asked = body.max_tokens if asked is None else asked
    return TextRequest(
        prompts=(prompt,),
        max_tokens=token_budget(model, (prompt,), asked, param="messages"),
        sampling=how,
        n=1 if body.n is None else body.n,
        seed=body.seed,
        stop=body.stop or (),
        ignore_eos=bool(body.ignore_eos),
        top_logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        reasoning=model.tokenizer.reasoning_tags,
        thinking=model.tokenizer.opens_reasoning(prompt),
        starts_text=True,
        adapter=model.adapter,
    )


@dataclass(slots=True)
class _Choice:
    """One choice of an answer that is sent whole."""

    content: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    tokens: list[TokenLogprob] = field(default_factory=list)
    finish: FinishReason = "stop"

    def add(self, delta: TextDelta) -> None:
        self.content.append(delta.content)
        self.reasoning.append(delta.reasoning)
        self.tokens.extend(delta.tokens)
        if delta.finish is not None:
            self.finish = delta.finish

    def answer(self, index: int, logprobs: ChatLogprobWriter | None) -> ChatChoice:
        message: AnswerMessage = {
            "role": "assistant",
            "content": "".join(self.content),
            "refusal": None,
        }
        reasoning = "".join(self.reasoning)
        if reasoning:
            message["reasoning_content"] = message["reasoning"] = reasoning
        return {
            "index": index,
            "message": message,
            "logprobs": None if logprobs is None else logprobs.write(self.tokens),
            "finish_reason": self.finish,
        }


async def _whole(running: Running) -> ChatCompletion:
    assert running.stream is not None
    choices = [_Choice() for _ in range(running.request.n)]
    async for deltas in running.stream:
        running.tally.see(deltas)
        for delta in deltas:
            choices[delta.choice].add(delta)
    logprobs = None
    if running.request.top_logprobs is not None:
        logprobs = ChatLogprobWriter(running.model.tokenizer)
    return {
        "id": running.id,
        "object": "chat.completion",
        "created": running.created,
        "model": running.model.name,
        "choices": [choice.answer(i, logprobs) for i, choice in enumerate(choices)],
        "usage": running.tally.usage(running.stream),
        "timings": running.tally.timings(running.stream),
    }


async def _events(running: Running, body: ChatRequest) -> AsyncGenerator[bytes, None]:
    """The role chunks wait for the first token, so that a failure before it has a status."""
    assert running.stream is not None
    writer = ChatChunkWriter(running, include_usage=body.include_usage)
    out = writer.opening()
    async for deltas in running.stream:
        running.tally.see(deltas)
        for delta in deltas:
            writer.write(delta, out)
        yield b"".join(out)
        out = []
    yield writer.closing()
