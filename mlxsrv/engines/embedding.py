"""Embedding models: from a loaded backend to a model, and from its results to vectors."""

from __future__ import annotations

import asyncio

import numpy as np
from numpy.typing import NDArray

from mlxsrv.backends.base import EmbeddingBackend
from mlxsrv.backends.checkpoint import Checkpoint
from mlxsrv.backends.device import Device
from mlxsrv.backends.sentence import SentenceSettings, read_sentence
from mlxsrv.config.settings import ModelSettings, Settings
from mlxsrv.core.errors import LoadError
from mlxsrv.core.meters import EncoderMeters
from mlxsrv.engines.context import context_of
from mlxsrv.engines.encoder import EncoderEngine
from mlxsrv.engines.encoder_tokenizer import EncoderTokenizer
from mlxsrv.engines.model import EmbeddingModel


async def load_embedding(
    name: str,
    backend: EmbeddingBackend,
    found: Checkpoint,
    own: ModelSettings,
    settings: Settings,
    device: Device,
    meters: EncoderMeters | None = None,
) -> EmbeddingModel:
    """Makes a model of a backend that is loaded, and tries it. Raises LoadError."""
    engine = EncoderEngine(
        device,
        backend,
        backend.embed,
        kind="embedding",
        slice_seconds=settings.engine.slice_ms / 1000,
        max_queue=settings.api.max_queue,
        packs=backend.packs,
        meters=meters,
    )
    try:
        if own.dimensions is not None and own.dimensions > backend.dimensions:
            raise LoadError(
                f"{name}: dimensions: is {own.dimensions}, and the model has {backend.dimensions}"
            )
        sentence, tokenizer = await asyncio.to_thread(_read, found)
        await device.call(lambda: backend.embed(tokenizer.texts(["A first text"])), kind="load")
    except BaseException:
        await engine.close()
        raise
    return EmbeddingModel(
        name=name,
        engine=engine,
        tokenizer=tokenizer,
        context_length=context_of(own, found),
        facts=backend.facts,
        dimensions=backend.dimensions,
        default_dimensions=own.dimensions or backend.dimensions,
        prompts=sentence.prompts,
        default_prompt=sentence.default_prompt_name,
        pool_prompt=sentence.include_prompt,
    )


def _read(found: Checkpoint) -> tuple[SentenceSettings, EncoderTokenizer]:
    sentence = read_sentence(found)
    trusted = set(sentence.prompts.values())
    tokenizer = EncoderTokenizer(found.folder, trusted=trusted, lowercase=sentence.lowercase)
    return sentence, tokenizer


def unit_vectors(values: NDArray[np.float32], dimensions: int) -> NDArray[np.float32]:
    """The first `dimensions` of each row, scaled to length 1: [rows, dimensions].

    What a model with Matryoshka training (arXiv:2205.13147) says in fewer numbers.
    """
    cut = np.ascontiguousarray(values[:, :dimensions])
    lengths = np.sqrt(np.einsum("rd,rd->r", cut, cut))[:, None]
    unit: NDArray[np.float32] = cut / np.maximum(lengths, np.finfo(np.float32).tiny)
    return unit
