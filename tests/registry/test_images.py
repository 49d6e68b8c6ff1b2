"""Image models that come and go: what is told of them, room, the smaller form, adapters."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from safetensors.numpy import save_file

from mlxsrv.api.modelobject import model_object
from mlxsrv.backends.footprint import Footprint
from mlxsrv.backends.select import Backend
from mlxsrv.core.errors import (
    InsufficientMemory,
    InvalidRequest,
    KindNotLoaded,
    LoadError,
    TooLargeForMemory,
)
from mlxsrv.core.image import ImageRequest, Pixels
from mlxsrv.core.kinds import Kind
from mlxsrv.engines.model import ImageModel, TextModel
from mlxsrv.registry import Registry
from tests.registry.conftest import registry
from tests.tiny_images import write_flux

T = TypeVar("T")
Run = Callable[..., Any]


@pytest.fixture(scope="module")
def flux(tmp_path_factory: pytest.TempPathFactory, folders: Path) -> Path:
    """Two image models `x` and `y` beside the text models, and an adapter for them."""
    root = tmp_path_factory.mktemp("images")
    # Large pictures, for which text encoders make room.
    write_flux(root / "x", text_width=64, vae_channels=(16, 16, 16, 16), sample_size=256)
    shutil.copytree(root / "x", root / "y")
    for name in "ab":
        (root / name).symlink_to(folders / name)
    rng = np.random.default_rng(0)
    layer = "transformer.transformer_blocks.0.attn.to_q.lora_{}.weight"
    sizes = {layer.format("A"): (4, 64), layer.format("B"): (64, 4)}
    tensors = {name: rng.standard_normal(size).astype(np.float32) for name, size in sizes.items()}
    save_file(tensors, root / "style.safetensors")
    return root


@pytest.fixture
def run(flux: Path, backend: Backend) -> Run:
    def main(test: Callable[[Registry], Awaitable[T]], **options: Any) -> T:
        async def inside() -> T:
            async with registry(flux, backend, allowed=(flux,), **options) as ready:
                return await test(ready)

        return asyncio.run(inside())

    return main


async def draw(made: Registry, name: str = "x", **options: Any) -> Pixels:
    async with made.lease(name, ImageModel) as model:
        asked = {"width": 64, "height": 64, "steps": 2, "seed": 1, "adapter": model.adapter}
        request = ImageRequest("a red circle", **{**asked, **options})
        updates = [u async for some in model.engine.submit(request) for u in some]
    picture = updates[-1].picture
    assert picture is not None
    return picture


async def footprint(made: Registry, name: str = "x") -> Footprint:
    async with made.lease(name, ImageModel):
        found = made._catalogue.named(name).footprint
    assert found is not None
    return found


def least(form: Footprint | None) -> int:
    """Bytes with which a model is loaded."""
    assert form is not None
    return form.weights + form.activations + form.cache(0)


def room_for_one(run: Run) -> int:
    """A budget that one of the models fits in, and two don't."""
    found = run(footprint, names="x")
    return least(found) + int(found.weights) // 2


def test_what_is_told_of_an_image_model(run: Run) -> None:
    async def test(made: Registry) -> None:
        before = made.info("x")
        assert (before.kind, before.image, before.context_length) == (Kind.IMAGE, None, None)
        await draw(made)
        image = made.info("x").image
        assert image is not None
        assert (image.width, image.height, image.steps) == (32, 64, 3)
        assert model_object(made.info("x"))["image"] == {
            "size": "32x64",
            "multiple": 16,
            "steps": 3,
            "guidance": None,
            "negative_prompt": False,
            "edits": True,
            "inputs": 1,
            "masks": True,
        }
        [meters] = made.image_meters()
        assert (meters.pictures, meters.steps) == (1, 2)
        assert await made.resolve(None, {Kind.IMAGE}) == "x"
        with pytest.raises(KindNotLoaded, match="No text model loaded"):
            await made.resolve(None, {Kind.CHAT})

    run(test, names="x", settings_of={"x": {"default_size": "32x64", "steps": 3}})


def test_a_setting_that_can_not_hold_leaves_nothing_behind(run: Run) -> None:
    async def test(made: Registry) -> None:
        with pytest.raises(LoadError, match="x: default_size: sides have to be multiples of 16"):
            await draw(made)
        memory = made.memory().held
        assert memory["weights"] == memory["activations"] == 0
        assert (await draw(made, "y")).any()

    run(test, names="xy", settings_of={"x": {"default_size": "33x64"}})


def test_weights_are_packed_where_that_can_be_done(run: Run, backend: Backend) -> None:
    async def test(made: Registry) -> None:
        with pytest.raises(LoadError, match="a: quantize: only image models are packed"):
            async with made.lease("a", TextModel):
                pass
        if backend == "torch":
            with pytest.raises(LoadError, match=r"x: quantize: .* on the mlx backend only"):
                await draw(made)
            return
        assert (await draw(made)).any()
        assert made.info("x").quantization == "4-bit"
        assert made.info("y").quantization is None

    run(test, names="axy", settings_of={name: {"quantize": 4} for name in "ax"})


def test_the_estimate_is_what_is_held_and_lets_a_picture_be_drawn(run: Run) -> None:
    async def test(made: Registry) -> None:
        expected = await footprint(made)
        assert made.info("x").memory_bytes == pytest.approx(expected.weights, rel=0.02)
        assert (await draw(made, width=256, height=256)).any()

    run(test, names="x", budget=least(run(footprint, names="x")))


def test_text_encoders_leave_where_memory_is_short(run: Run) -> None:
    whole = run(footprint, names="x")
    plain = run(draw, names="x")
    assert least(whole.staged) < least(whole)

    async def test(made: Registry) -> None:
        np.testing.assert_array_equal(await draw(made), plain)
        entry = made._catalogue.named("x")
        assert entry.staged
        assert entry.held == pytest.approx(whole.staged.weights, rel=0.02)
        assert sum(made.memory().held.values()) <= made.memory().budget_bytes

    run(test, names="x", budget=least(whole) - 1)

    async def too_large(made: Registry) -> None:
        words = r"needs .* MB of memory, or .* MB with its text encoders .* the budget is"
        with pytest.raises(TooLargeForMemory, match=words):
            await draw(made)

    run(too_large, names="x", budget=least(whole.staged) - 1)


def test_an_image_model_makes_room_and_a_picture_makes_more(run: Run) -> None:
    async def test(made: Registry) -> None:
        await draw(made, "x")
        await draw(made, "y")
        assert made.info("x").state == "available"
        assert (await draw(made, "x")).any()
        with pytest.raises(TooLargeForMemory, match="a picture of 2048x2048 needs"):
            await draw(made, "x", width=2048, height=2048)
        assert (await draw(made, "x")).any()

    run(test, names="xy", budget=room_for_one(run))


def test_a_pinned_image_model_stays(run: Run) -> None:
    async def test(made: Registry) -> None:
        await draw(made, "x")
        with pytest.raises(InsufficientMemory, match="the model y needs"):
            await draw(made, "y")

    run(test, names="xy", budget=room_for_one(run), settings_of={"x": {"pin": True}})


def test_an_adapter_is_a_model_of_its_own(run: Run, flux: Path) -> None:
    async def test(made: Registry) -> None:
        plain = await draw(made)
        info = await made.load_adapter("x", "style", str(flux / "style.safetensors"), 2.0)
        assert (info.base, info.rank, info.scale) == ("x", 4, 2.0)
        assert await made.resolve("style", {Kind.IMAGE}) == "style"
        styled = await draw(made, "style")
        assert (styled != plain).any()
        np.testing.assert_array_equal(await draw(made), plain)
        assert made.info("style").base == "x"
        assert made.memory().held["adapters"] == info.memory_bytes > 0
        await made.unload_adapter("style")
        assert made.memory().held["adapters"] == 0
        with pytest.raises(InvalidRequest, match="lora_path"):
            await made.load_adapter("x", "gone", str(flux / "none.safetensors"))
        np.testing.assert_array_equal(await draw(made), plain)

    run(test, names="x")


def test_adapters_come_back_with_their_model(run: Run, flux: Path) -> None:
    async def test(made: Registry) -> None:
        await made.load_adapter("x", "style", str(flux / "style.safetensors"))
        styled = await draw(made, "style")
        await draw(made, "y")
        assert made.info("x").state == "available"
        np.testing.assert_array_equal(await draw(made, "style"), styled)
        assert made.loads()["x"] == 2
        # The same adapter, which the configuration says y is to draw with always.
        np.testing.assert_array_equal(await draw(made, "y"), styled)

    own = {"y": {"adapter": str(flux / "style.safetensors")}}
    run(test, names="xy", budget=room_for_one(run), settings_of=own)
