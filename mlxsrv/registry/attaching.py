"""Putting adapters into a model that is in memory, and taking them out."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from mlxsrv.core.errors import InvalidRequest, MlxsrvError
from mlxsrv.engines.load import adapter_for
from mlxsrv.engines.memory import MemoryBudget
from mlxsrv.engines.model import ImageModel, Model, TextModel
from mlxsrv.registry.entry import Entry, LoadedAdapter

log = logging.getLogger(__name__)


async def attach(
    model: Model, name: str, folder: Path, scale: float, memory: MemoryBudget
) -> LoadedAdapter:
    """Adds the adapter at `folder`, for image models also a file, to a loaded model. Raises
    InvalidRequest, InsufficientMemory."""
    if not isinstance(model, TextModel | ImageModel):
        raise InvalidRequest(f"model: {model.name} can't take adapters", param="model")
    adapter = await asyncio.to_thread(adapter_for, model, folder, scale)
    if not memory.take("adapters", adapter.nbytes):
        raise memory.refusal(f"the adapter {name}", adapter.nbytes)
    try:
        await model.engine.add_adapter(name, adapter)
    except BaseException:
        memory.release("adapters", adapter.nbytes)
        raise
    return LoadedAdapter(folder, scale, adapter.rank, adapter.nbytes)


async def attach_all(entry: Entry, model: Model, memory: MemoryBudget) -> None:
    """Brings the adapters back of a model that was loaded again.

    One whose folder has changed meanwhile fails by itself: its base serves on.
    """
    for name, own in list(entry.adapters.items()):
        before = own.adapter
        assert before is not None
        try:
            own.adapter = await attach(model, name, before.folder, before.scale, memory)
        except MlxsrvError as error:
            log.warning("the adapter %s did not come back: %s", name, error.message)
            before.failure = error


async def detach(model: Model, entry: Entry, memory: MemoryBudget) -> None:
    """Takes out an adapter that no request uses."""
    assert isinstance(model, TextModel | ImageModel) and entry.adapter is not None
    await model.engine.remove_adapter(entry.name)
    memory.release("adapters", entry.adapter.nbytes)


def attached_bytes(entry: Entry) -> int:
    """What the adapters of a model in memory hold."""
    adapters = (own.adapter for own in entry.adapters.values())
    return sum(a.nbytes for a in adapters if a is not None and a.failure is None)
