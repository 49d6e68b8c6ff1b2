"""LoRA files of image models: drawing with one is drawing with weights that it was merged into."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mlxsrv.backends import checkpoint
from mlxsrv.backends.adapter import Adapter
from mlxsrv.backends.base import ImageBackend
from mlxsrv.backends.image_adapter_files import read_image_adapter
from mlxsrv.backends.image_options import ImageOptions
from mlxsrv.backends.load import finished, load_image
from mlxsrv.backends.select import Backend
from mlxsrv.core.errors import InvalidRequest
from mlxsrv.core.image import Drawing, DrawingStep, Pixels
from tests.tiny_image_adapters import matrices, named, write_image_adapter
from tests.tiny_images import write_flux

pytestmark = pytest.mark.usefixtures("mlx_thread")

DRAWING = Drawing("a red circle", 64, 64, steps=2, seed=3)
WIDTH = 64
LAYERS = {
    "double_blocks_0_img_attn_qkv": (WIDTH, 3 * WIDTH),
    "double_blocks_0_txt_attn_qkv": (WIDTH, 3 * WIDTH),
    "double_blocks_0_img_attn_proj": (WIDTH, WIDTH),
    "double_blocks_0_txt_attn_proj": (WIDTH, WIDTH),
    "double_blocks_0_img_mlp_0": (WIDTH, 4 * WIDTH),
    "double_blocks_0_txt_mlp_2": (4 * WIDTH, WIDTH),
    "double_blocks_0_img_mod_lin": (WIDTH, 6 * WIDTH),
    "single_blocks_1_linear1": (WIDTH, 7 * WIDTH),
    "single_blocks_1_linear2": (5 * WIDTH, WIDTH),
    "single_blocks_0_modulation_lin": (WIDTH, 3 * WIDTH),
    "final_layer_linear": (WIDTH, WIDTH),
}
"""Of the tiny model, as kohya's scripts name them."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_flux(tmp_path_factory.mktemp("base") / "flux")


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("lora") / "style.safetensors"
    style = {"before": "lora_unet_", "parts": ("lora_down", "lora_up"), "alpha": 2.0}
    save_file(named(matrices(LAYERS, strength=1.0), **style), file)  # type: ignore[arg-type]
    return file


@pytest.fixture(scope="module")
def merged(base: Path, lora: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("merged")
    for part in base.iterdir():
        if part.name != "transformer":
            (folder / part.name).symlink_to(part)
    return merge(base, folder, read_image_adapter(lora))


def merge(base: Path, folder: Path, adapter: Adapter) -> Path:
    (folder / "transformer").mkdir()
    config = (base / "transformer/config.json").read_bytes()
    (folder / "transformer/config.json").write_bytes(config)
    weights = load_file(base / "transformer/diffusion_pytorch_model.safetensors")
    for path, layer in adapter.layers.items():
        gained = np.float32(layer.scale) * (layer.b @ layer.a)
        weights[f"{path}.weight"] = weights[f"{path}.weight"] + gained
    save_file(weights, folder / "transformer/diffusion_pytorch_model.safetensors")
    return folder


def load(backend: Backend, folder: Path) -> ImageBackend:
    return finished(load_image(backend, checkpoint.read(folder), ImageOptions()))


def picture_of(steps: Iterator[DrawingStep | None]) -> Pixels:
    *_, last = steps
    assert last is not None
    assert last.picture is not None
    return last.picture


def test_drawing_with_it_is_drawing_with_merged_weights(
    backend_name: Backend, base: Path, merged: Path, lora: Path
) -> None:
    other = load(backend_name, merged)
    expected = picture_of(other.draw(DRAWING))
    other.close()
    backend = load(backend_name, base)
    plain = picture_of(backend.draw(DRAWING))
    backend.add_adapter("style", read_image_adapter(lora))
    drawn = picture_of(backend.draw(replace(DRAWING, adapter="style")))
    backend.close()
    assert np.abs(drawn.astype(int) - expected).max() <= 2
    assert np.abs(plain.astype(int) - expected).mean() > 5


def test_one_for_another_model_is_refused(
    backend_name: Backend, base: Path, tmp_path: Path
) -> None:
    larger = write_flux(tmp_path / "larger", heads=4)
    adapter = read_image_adapter(write_image_adapter(tmp_path / "lora", larger))
    backend = load(backend_name, base)
    plain = picture_of(backend.draw(DRAWING))
    with pytest.raises(InvalidRequest, match="made for another base model"):
        backend.add_adapter("large", adapter)
    assert np.array_equal(picture_of(backend.draw(DRAWING)), plain)
    backend.close()
