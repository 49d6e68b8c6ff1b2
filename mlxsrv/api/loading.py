"""The load of a model that a request asked for, whole or as a stream of events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

import orjson

from mlxsrv.api.chunks import DONE
from mlxsrv.api.modelobject import model_object
from mlxsrv.api.schemas.management import LoadProgressEvent, ModelObject
from mlxsrv.core.errors import HubUnreachable, InvalidRequest, LoadError, ModelNotFound
from mlxsrv.registry import LoadProgress, LoadRequest, ModelInfo, Registry

PROGRESS_SECONDS = 0.1
"""Between two events; a failure in the first of these still gets its own status."""


async def load(
    registry: Registry,
    wanted: LoadRequest,
    on_progress: Callable[[LoadProgress], None] | None = None,
) -> ModelInfo:
    """Raises as Registry.load, but tells what is wrong with a checkpoint to whoever named it."""
    try:
        return await registry.load(wanted, on_progress)
    except (ModelNotFound, HubUnreachable) as error:
        raise ModelNotFound(error.message, param="model") from error
    except LoadError as error:
        raise InvalidRequest(error.message, param="model", code=error.code) from error


async def load_events(registry: Registry, wanted: LoadRequest) -> AsyncGenerator[bytes, None]:
    """Progress while there is news of it, then the model, then the end. Raises as `load`.

    Whoever stops listening stops waiting, not the load.
    """
    newest = _Newest()
    loading = asyncio.create_task(load(registry, wanted, newest.put), name="streamed load")
    try:
        while not (await asyncio.wait({loading}, timeout=PROGRESS_SECONDS))[0]:
            if (news := newest.take()) is not None:
                yield _event(_progress(wanted.model, news))
        info = loading.result()
    finally:
        loading.cancel()
        loading.add_done_callback(_seen)
    last = newest.take()
    if last is not None:
        yield _event(_progress(wanted.model, last))
    yield _event(model_object(info)) + DONE


class _Newest:
    """The last thing that was put. What came before it and was not taken is forgotten.

    Any thread may put.
    """

    def __init__(self) -> None:
        self._value: LoadProgress | None = None

    def put(self, value: LoadProgress) -> None:
        self._value = value

    def take(self) -> LoadProgress | None:
        value, self._value = self._value, None
        return value


def _seen(task: asyncio.Task[ModelInfo]) -> None:
    """Asyncio reports an exception that nobody looked at."""
    if not task.cancelled():
        task.exception()


def _progress(model: str, news: LoadProgress) -> LoadProgressEvent:
    known = news.total
    return {
        "object": "model.load.progress",
        "model": model,
        "stage": news.stage,
        "done": news.done,
        "total": known,
        "progress": min(1.0, round(news.done / known, 4)) if known else None,
    }


def _event(value: LoadProgressEvent | ModelObject) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"
