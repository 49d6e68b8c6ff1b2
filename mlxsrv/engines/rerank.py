"""Rerank models: from a loaded backend to a model."""

from __future__ import annotations

import asyncio

from mlxsrv.backends.base import RerankBackend
from mlxsrv.backends.checkpoint import Checkpoint
from mlxsrv.backends.device import Device
from mlxsrv.config.settings import ModelSettings, Settings
from mlxsrv.core.errors import LoadError
from mlxsrv.core.meters import EncoderMeters
from mlxsrv.engines.context import context_of
from mlxsrv.engines.encoder import EncoderEngine
from mlxsrv.engines.model import RerankModel
from mlxsrv.engines.pairs import CrossEncoder, Judge, PairReader


async def load_rerank(
    name: str,
    backend: RerankBackend,
    found: Checkpoint,
    own: ModelSettings,
    settings: Settings,
    device: Device,
    meters: EncoderMeters | None = None,
) -> RerankModel:
    """Makes a model of a backend that is loaded, and tries it. Raises LoadError."""
    engine = EncoderEngine(
        device,
        backend,
        backend.score,
        kind="rerank",
        slice_seconds=settings.engine.slice_ms / 1000,
        max_queue=settings.api.max_queue,
        meters=meters,
    )
    try:
        reader = await asyncio.to_thread(_reader, found)
        first = reader.rows("A first query", ["A first text"], None)
        await device.call(lambda: backend.score(first), kind="load")
    except BaseException:
        await engine.close()
        raise
    return RerankModel(
        name=name,
        engine=engine,
        reader=reader,
        context_length=context_of(own, found),
        facts=backend.facts,
    )


def _reader(found: Checkpoint) -> PairReader:
    """Converted to a classifier, a Qwen3-Reranker still reads what it was trained on."""
    if found.model_type == "qwen3":
        return Judge(found.folder)
    if (found.architecture or "").endswith("ForCausalLM"):
        raise LoadError(
            f"{found.folder.name} is a language model of type {found.model_type}; of those only "
            "Qwen3-Reranker can rerank here"
        )
    return CrossEncoder(found.folder)
