"""What the embeddings and the rerank route share."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import TypeVar

from starlette.requests import Request

from mlxsrv.api.access import note
from mlxsrv.api.limits import admit
from mlxsrv.api.schemas.embeddings import EncoderUsage
from mlxsrv.api.services import services_of
from mlxsrv.core.encoding import TokenRow
from mlxsrv.core.errors import ContextLengthExceeded, InvalidRequest
from mlxsrv.core.kinds import Kind
from mlxsrv.engines.encoder_task import Values
from mlxsrv.engines.model import EmbeddingModel, RerankModel

M = TypeVar("M", EmbeddingModel, RerankModel)


async def lease(
    request: Request, name: str | None, kind: Kind, model: type[M], held: AsyncExitStack
) -> M:
    """The model that the request means, held until `held` ends. Raises NotFound, LoadError."""
    registry = services_of(request).registry
    served = await registry.resolve(name, {kind}, prefer=kind)
    note(request, model=served)
    return await held.enter_async_context(registry.lease(served, model))


async def computed(
    request: Request,
    model: EmbeddingModel | RerankModel,
    rows: Sequence[TokenRow],
    held: AsyncExitStack,
) -> Values:
    """What the model makes of each row; `held` cancels the work when it ends.

    Raises RateLimited, Overloaded, GenerationFailed, DeviceDead.
    """
    tokens = usage(rows)["prompt_tokens"]
    admit(request, tokens)
    note(request, prompt_tokens=tokens)
    task = model.engine.submit(rows)
    held.callback(task.cancel)
    return await task.result()


def usage(rows: Sequence[TokenRow]) -> EncoderUsage:
    tokens = sum(len(row.ids) for row in rows)
    return {"prompt_tokens": tokens, "total_tokens": tokens}


def too_long(limit: int, length: int, param: str) -> ContextLengthExceeded:
    """In the words by which clients know that they should shorten the input."""
    return ContextLengthExceeded(
        f"This model's maximum context length is {limit} tokens. However, your {param} resulted "
        f"in {length} tokens. Please reduce the length of the {param}.",
        param=param,
    )


def check_row(row: TokenRow, vocab_size: int, param: str) -> None:
    """Raises InvalidRequest: a model reads past its embedding at an id it does not have."""
    if not row.ids:
        raise InvalidRequest(f"{param}: holds no token", param=param)
    if max(row.ids) >= vocab_size:
        raise InvalidRequest(
            f"{param}: token {max(row.ids)} is not in the model's vocabulary of {vocab_size}",
            param=param,
        )
