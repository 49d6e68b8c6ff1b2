"""LoRA adapters: models of their own that share their base's weights."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from mlxsrv.config.settings import HubSettings, ModelSettings
from mlxsrv.core.errors import InvalidRequest, ModelNotFound
from mlxsrv.registry import finding
from mlxsrv.registry.attaching import attach, detach
from mlxsrv.registry.entry import AdapterInfo, Entry
from mlxsrv.registry.naming import Catalogue
from mlxsrv.registry.residency import Residency


class Adapters:
    """Loads and unloads adapters by API. Belongs to the event loop."""

    def __init__(self, catalogue: Catalogue, residency: Residency, bounds: HubSettings) -> None:
        self._catalogue = catalogue
        self._residency = residency
        self._bounds = bounds

    def list(self) -> Sequence[AdapterInfo]:
        return [_info(entry) for entry in self._catalogue if entry.adapter is not None]

    async def load(self, base: Entry, name: str, path: str, scale: float | None) -> AdapterInfo:
        """Adds the adapter at `path` beside `base`. Raises InvalidRequest, ModelNotFound,
        Conflict, LoadError, InsufficientMemory."""
        if base.base is not None:
            raise InvalidRequest(f"model: {base.name} is an adapter itself", param="model")
        entry = Entry(name, ModelSettings(path=path), base=base)
        self._catalogue.add(entry, param="lora_name")
        try:
            folder = await asyncio.to_thread(finding.adapter_folder, path, self._bounds)
            model = await self._residency.acquire(base)
            try:
                entry.adapter = await attach(
                    model, name, folder, 1.0 if scale is None else scale, self._residency.memory
                )
                base.adapters[name] = entry
            finally:
                self._residency.release(base)
        except BaseException:
            self._catalogue.remove(entry)
            raise
        return _info(entry)

    async def unload(self, entry: Entry, base: Entry | None = None) -> AdapterInfo:
        """Forgets an adapter once its requests have finished; `base` is whose it should be.
        Raises ModelNotFound, InvalidRequest."""
        if entry.base is None or entry.adapter is None:
            raise ModelNotFound(f"{entry.name} is not an adapter", param="lora_name")
        if base is not None and entry.base is not base:
            raise InvalidRequest(
                f"model: {entry.name} is an adapter of {entry.base.name}, not of {base.name}",
                param="model",
            )
        self._catalogue.remove(entry)
        await self._residency.unused(entry)
        if entry.base.model is not None and entry.adapter.failure is None:
            model = await self._residency.acquire(entry.base)
            try:
                await detach(model, entry, self._residency.memory)
            finally:
                self._residency.release(entry.base)
        return _info(entry)


def _info(entry: Entry) -> AdapterInfo:
    assert entry.base is not None and entry.adapter is not None
    return AdapterInfo(
        name=entry.name,
        base=entry.base.name,
        path=str(entry.adapter.folder),
        scale=entry.adapter.scale,
        rank=entry.adapter.rank,
        memory_bytes=entry.adapter.nbytes,
        state=entry.state,
    )
