"""From a checkpoint's folder to an embedding or rerank model, and its vectors."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from mlxsrv.backends import checkpoint, load
from mlxsrv.backends.device import Device
from mlxsrv.backends.select import Backend
from mlxsrv.config.settings import ModelSettings, Settings
from mlxsrv.core.errors import LoadError
from mlxsrv.engines.embedding import load_embedding, unit_vectors
from mlxsrv.engines.model import EmbeddingModel, RerankModel
from mlxsrv.engines.rerank import load_rerank
from tests import tiny_encoders

T = TypeVar("T")

VECTORS = arrays(
    np.float32,
    st.tuples(st.integers(1, 5), st.integers(1, 9)),
    elements=st.floats(-1e6, 1e6, width=32),
)


@given(VECTORS, st.integers(1, 9))
def test_vectors_are_cut_and_have_length_one(values: NDArray[np.float32], dimensions: int) -> None:
    vectors = unit_vectors(values, dimensions)
    cut = values[:, :dimensions].astype(np.float64)
    assert vectors.shape == cut.shape
    for vector, given_ in zip(vectors, cut, strict=True):
        length = np.linalg.norm(given_)
        if length > 1e-12:
            assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
            assert vector == pytest.approx(given_ / length, abs=1e-5)
        assert np.isfinite(vector).all()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("encoders")
    tiny_encoders.build(root / "bert", "bert")
    tiny_encoders.build(root / "cross", "bert", auto="AutoModelForSequenceClassification")
    return root


@pytest.fixture(params=["torch", "mlx"])
def on_device(request: pytest.FixtureRequest) -> Callable[..., object]:
    name: Backend = request.param

    def run(test: Callable[[Device, Backend], Awaitable[T]]) -> T:
        async def main() -> T:
            device = Device(at_exit=lambda: load.at_thread_exit(name))
            device.start()
            try:
                return await test(device, name)
            finally:
                await device.stop()

        return asyncio.run(main())

    return run


async def embedder(
    device: Device, name: Backend, folder: Path, own: ModelSettings | None = None
) -> EmbeddingModel:
    found = checkpoint.read(folder)
    backend = await device.run("load", lambda: load.load_embedding(name, found))
    own = own or ModelSettings(path=str(folder))
    return await load_embedding("tiny", backend, found, own, Settings(), device)


async def reranker(device: Device, name: Backend, folder: Path) -> RerankModel:
    found = checkpoint.read(folder)
    backend = await device.run("load", lambda: load.load_rerank(name, found))
    own = ModelSettings(path=str(folder))
    return await load_rerank("tiny", backend, found, own, Settings(), device)


def test_what_the_files_say_comes_with_the_model(
    on_device: Callable[..., object], folder: Path
) -> None:
    async def test(device: Device, name: Backend) -> None:
        own = ModelSettings(path=str(folder), dimensions=8, context_length=20)
        model = await embedder(device, name, folder / "bert", own)
        assert (model.dimensions, model.default_dimensions) == (tiny_encoders.WIDTH, 8)
        assert (model.context_length, model.vocab_size) == (20, tiny_encoders.VOCABULARY)
        assert (dict(model.prompts), model.default_prompt) == ({}, None)
        rows = model.tokenizer.texts(["the cat", "the dog", "the cat"])
        values = await model.engine.submit(rows).result()
        assert values.shape == (3, tiny_encoders.WIDTH)
        assert (values[0] == values[2]).all()
        await model.close()

    on_device(test)


def test_a_reranker_scores_pairs(on_device: Callable[..., object], folder: Path) -> None:
    async def test(device: Device, name: Backend) -> None:
        model = await reranker(device, name, folder / "cross")
        rows = model.reader.rows("the cat", ["the dog", "rain"], None)
        scores = await model.engine.submit(rows).result()
        assert scores.shape == (2,)
        assert ((scores >= 0) & (scores <= 1)).all()
        await model.close()

    on_device(test)


def test_a_model_that_can_not_be_as_asked_is_not_loaded(
    on_device: Callable[..., object], folder: Path
) -> None:
    async def test(device: Device, name: Backend) -> None:
        own = ModelSettings(path=str(folder), dimensions=33)
        with pytest.raises(LoadError, match="dimensions: is 33, and the model has 32"):
            await embedder(device, name, folder / "bert", own)

    on_device(test)


def test_a_folder_without_its_tokenizer_is_not_loaded(
    on_device: Callable[..., object], tmp_path: Path
) -> None:
    tiny_encoders.build(tmp_path, "bert")
    (tmp_path / "tokenizer.json").unlink()

    async def test(device: Device, name: Backend) -> None:
        with pytest.raises(LoadError, match="tokenizer"):
            await embedder(device, name, tmp_path)

    on_device(test)
