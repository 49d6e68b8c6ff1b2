"""What the text routes share: from a request's fields to a running generation."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, TypeVar

import orjson
from starlette.requests import Request
from starlette.responses import Response

from mlxsrv.api.access import note
from mlxsrv.api.chunks import DONE, Chunks
from mlxsrv.api.limits import admit, charge
from mlxsrv.api.schemas.generation import DEFAULT_MAX_TOKENS, GenerationRequest
from mlxsrv.api.services import port_kind, services_of
from mlxsrv.api.usage import Tally
from mlxsrv.core.errors import ContextLengthExceeded, InvalidRequest
from mlxsrv.core.kinds import TEXT_KINDS, Kind
from mlxsrv.core.text import LEAST_PENALTY, Sampling, TextRequest
from mlxsrv.engines.model import TextModel
from mlxsrv.engines.text import TextStream

LONG_TEXT = 16_000
"""Characters; tokenizing more than this would hold up the other requests' streams."""

T = TypeVar("T")


async def lease(
    request: Request, name: str | None, held: AsyncExitStack, *, prefer: Kind
) -> TextModel:
    """The model that the request means, held until `held` ends. Raises NotFound, LoadError."""
    services = services_of(request)
    kind = port_kind(request.scope, services)
    wanted = kind if kind in TEXT_KINDS else prefer
    served = await services.registry.resolve(name, TEXT_KINDS, prefer=wanted)
    note(request, model=served)
    return await held.enter_async_context(services.registry.lease(served, TextModel))


async def encoded(encode: Callable[[], T], characters: int) -> T:
    """Runs a tokenizer on a thread of its own where the text is long."""
    return await asyncio.to_thread(encode) if characters > LONG_TEXT else encode()


def sampling(body: GenerationRequest, model: TextModel) -> Sampling:
    """The request's own values, else the model's defaults, else OpenAI's.

    Raises InvalidRequest for a `logit_bias` of a token that the model does not have.
    """
    defaults = model.defaults
    top_k = _first(body.top_k, defaults.top_k, 0)
    bias = body.logit_bias or {}
    for token in bias:
        if token >= model.vocab_size:
            raise InvalidRequest(
                f"logit_bias: token {token} is not in the vocabulary of {model.vocab_size}",
                param="logit_bias",
            )
    return Sampling(
        temperature=_first(body.temperature, defaults.temperature, 1.0),
        top_p=_first(body.top_p, defaults.top_p, 1.0),
        top_k=top_k if 0 < top_k < model.vocab_size else 0,
        min_p=_first(body.min_p, defaults.min_p, 0.0),
        repetition_penalty=max(
            LEAST_PENALTY, _first(body.repetition_penalty, defaults.repetition_penalty, 1.0)
        ),
        frequency_penalty=body.frequency_penalty or 0.0,
        presence_penalty=body.presence_penalty or 0.0,
        logit_bias=bias,
    )


def _first(given: T | None, default: T | None, otherwise: T) -> T:
    if given is not None:
        return given
    return otherwise if default is None else default


def token_budget(
    model: TextModel,
    prompts: Collection[tuple[int, ...]],
    wanted: int | None,
    *,
    param: str,
) -> int:
    """How many tokens each choice may have; the engine also keeps them inside the context.

    Raises ContextLengthExceeded, in the words by which clients know that they should shorten
    the conversation. A prompt that is only scored (`wanted` 0) may fill the context.
    """
    longest = max(map(len, prompts))
    wanted = DEFAULT_MAX_TOKENS if wanted is None else wanted
    if longest + min(wanted, 1) > model.context_length:
        raise ContextLengthExceeded(
            f"This model's maximum context length is {model.context_length} tokens. However, "
            f"your {param} resulted in {longest} tokens. Please reduce the length of the {param}.",
            param=param,
        )
    return wanted


def check_vocabulary(
    model: TextModel, ids: tuple[int, ...], param: str, *, given: bool = False
) -> None:
    """Raises InvalidRequest: a model reads past its embedding at an id it does not have.

    `given` says that the caller sent the ids, rather than a text that became them.
    """
    if ids and max(ids) >= model.vocab_size:
        place = next(place for place, id_ in enumerate(ids) if id_ >= model.vocab_size)
        where = f"{param}.{place}" if given else param
        raise InvalidRequest(
            f"{where}: token {ids[place]} is not in the vocabulary of {model.vocab_size}",
            param=where,
        )


@dataclass(frozen=True, slots=True)
class Running:
    """A request that was admitted. `stream` is None where nothing is generated."""

    model: TextModel
    request: TextRequest
    stream: TextStream | None
    tally: Tally
    id: str
    created: int = field(default_factory=lambda: int(time.time()))

    def chunks(self, object_: str, *, include_usage: bool) -> Chunks:
        return Chunks(
            id_=self.id,
            object_=object_,
            created=self.created,
            model=self.model.name,
            include_usage=include_usage,
        )

    def closing(self, chunks: Chunks, *, include_usage: bool) -> bytes:
        """What follows the last choice's last chunk."""
        if not include_usage:
            return DONE
        return chunks.usage(self.tally.usage(self.stream), self.tally.timings(self.stream)) + DONE


def start(
    request: Request,
    model: TextModel,
    wanted: TextRequest,
    held: AsyncExitStack,
    *,
    prefix: str,
    generates: bool = True,
) -> Running:
    """Admits and queues a request; `held` cancels it when it ends, and settles the accounts.

    Raises RateLimited, Overloaded, DeviceDead.
    """
    tally = Tally(sum(map(len, wanted.prompts)))
    admit(request, tally.prompt_tokens)
    note(request, prompt_tokens=tally.prompt_tokens)
    held.callback(_settle, request, tally)
    stream = None
    if generates:
        stream = model.engine.submit(wanted)
        held.callback(stream.cancel)
    return Running(model, wanted, stream, tally, f"{prefix}-{secrets.token_hex(12)}")


def _settle(request: Request, tally: Tally) -> None:
    note(request, completion_tokens=tally.completion_tokens)
    charge(request, tally.completion_tokens)


class HeldEvents:
    """A stream's events together with what they hold: a lease and a running generation.

    An async generator that is closed before its first step never reaches its `finally`, so
    what has to be freed is kept outside it.
    """

    def __init__(self, events: AsyncGenerator[bytes, None], held: AsyncExitStack) -> None:
        self._events = events
        self._held = held

    def __aiter__(self) -> HeldEvents:
        return self

    def __anext__(self) -> Awaitable[bytes]:
        return self._events.__anext__()

    async def aclose(self) -> None:
        try:
            await self._events.aclose()
        finally:
            await self._held.aclose()


def json_answer(value: Any) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")
