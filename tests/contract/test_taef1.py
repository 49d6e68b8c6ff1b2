"""The small decoder for previews: both backends give diffusers' pictures, of either layout."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from mlxsrv.backends.select import Backend
from mlxsrv.core.errors import LoadError
from mlxsrv.core.image import Pixels

DATA = Path(__file__).parents[3] / "shared/data"
CHANNELS = 16

Floats = NDArray[np.float32]
Slices = Callable[[Path, Floats], Iterator[Pixels | None]]

pytestmark = pytest.mark.usefixtures("mlx_thread")


@pytest.fixture
def slices(backend_name: Backend) -> Slices:
    """What the decoder in a file or folder makes of latents [channels, height, width]."""

    def torch_slices(path: Path, latents: Floats) -> Iterator[Pixels | None]:
        import torch

        from mlxsrv.backends.torch.taef1 import load_taef1

        return load_taef1(path, len(latents)).slices(torch.from_numpy(latents)[None])

    def mlx_slices(path: Path, latents: Floats) -> Iterator[Pixels | None]:
        import mlx.core as mx

        from mlxsrv.backends.mlx.taef1 import load_taef1

        return load_taef1(path, len(latents)).slices(mx.array(latents.transpose(1, 2, 0))[None])

    return torch_slices if backend_name == "torch" else mlx_slices


def picture_of(made: Iterator[Pixels | None]) -> Pixels:
    *waits, picture = made
    assert set(waits) == {None}
    assert picture is not None
    return picture


def build(folder: Path, **config: Any) -> Any:
    """An AutoencoderTiny with random weights, as diffusers saves it."""
    import diffusers
    import torch

    torch.manual_seed(0)
    tiny: Any = diffusers.AutoencoderTiny
    model = tiny(
        encoder_block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(12, 12, 12, 12),
        num_decoder_blocks=(2, 1, 1, 1),
        latent_channels=CHANNELS,
        **config,
    )
    model.save_pretrained(folder)
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny")
    build(path)
    return path


@pytest.fixture(scope="module")
def tensors(folder: Path) -> dict[str, Any]:
    """The decoder's, named as the author does it: a first layer of its own squeezes latents."""
    stored = load_file(folder / "diffusion_pytorch_model.safetensors")
    named = {}
    for name, tensor in stored.items():
        if name.startswith("decoder.layers."):
            number, _, rest = name.removeprefix("decoder.layers.").partition(".")
            named[f"{int(number) + 1}.{rest}"] = tensor
    return named


def latents(height: int = 5, width: int = 7) -> Floats:
    generator = np.random.default_rng(1)
    return generator.normal(0, 2, (CHANNELS, height, width)).astype(np.float32)


def pixels(sample: Any) -> Pixels:
    """Of diffusers' sample [1, 3, height, width] in -1..1."""
    levels = ((sample[0] + 1) / 2).clamp(0, 1) * 255
    array: Pixels = levels.round().byte().permute(1, 2, 0).numpy()
    return array


def test_it_decodes_as_diffusers_does(folder: Path, slices: Slices) -> None:
    import diffusers
    import torch

    tiny: Any = diffusers.AutoencoderTiny
    model = tiny.from_pretrained(folder)
    with torch.no_grad():
        expected = pixels(model.decode(torch.from_numpy(latents())[None]).sample)
    made = picture_of(slices(folder, latents()))
    assert made.shape == (40, 56, 3)
    assert expected.std() > 1
    # Rounding to a level may tip over where floats differ in their last digits, and no further.
    differences = np.abs(made.astype(int) - expected.astype(int))
    assert differences.max() <= 1
    assert np.count_nonzero(differences) <= 2


def test_both_layouts_are_the_same_decoder(
    folder: Path, tensors: dict[str, Any], slices: Slices, tmp_path: Path
) -> None:
    file = tmp_path / "any_decoder.safetensors"
    save_file(tensors, file)
    expected = picture_of(slices(folder, latents()))
    assert np.array_equal(picture_of(slices(file, latents())), expected)
    assert np.array_equal(picture_of(slices(tmp_path, latents())), expected)
    weights = folder / "diffusion_pytorch_model.safetensors"
    assert np.array_equal(picture_of(slices(weights, latents())), expected)


@pytest.mark.skipif(not DATA.is_dir(), reason="there are no real weights here")
def test_real_weights_give_the_picture_back(slices: Slices) -> None:
    import torch
    from diffusers.models.autoencoders.vae import EncoderTiny
    from PIL import Image
    from safetensors.torch import load_file as load_tensors

    encoder = EncoderTiny(3, CHANNELS, (1, 3, 3, 3), (64, 64, 64, 64), "relu")
    stored = load_tensors(DATA / "taef1/taef1_encoder.safetensors")
    encoder.load_state_dict({f"layers.{name}": tensor for name, tensor in stored.items()})
    with Image.open(DATA / "images/cat.jpeg") as image:
        original = np.array(image.convert("RGB").resize((192, 128)))
    with torch.no_grad():
        encoded = encoder(torch.tensor(original).permute(2, 0, 1)[None] / 127.5 - 1)
    made = picture_of(slices(DATA / "taef1", encoded[0].numpy()))
    assert made.shape == original.shape
    error = np.mean((made.astype(float) - original) ** 2)
    assert 10 * np.log10(255**2 / error) > 20


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param({"1.weight": np.zeros((12, 4, 3, 3), "f4")}, "1 does not take 16", id="sizes"),
        pytest.param({"1.weight": np.zeros((12, 16, 3, 3), "f8")}, "1 does not", id="dtype"),
        pytest.param({"1.bias": np.zeros(7, "f4")}, "the bias of 1", id="bias"),
        pytest.param({"3.pool.weight": np.zeros(2, "f4")}, "3.pool.weight", id="more"),
        pytest.param({"3.conv.2.weight": None}, "3.conv.2 does not", id="less"),
        pytest.param({"99.weight": np.zeros((3, 3, 3, 3), "f4")}, "times as wide", id="gap"),
        pytest.param({"encoder.weight": np.zeros(2, "f4")}, "encoder.weight", id="unnumbered"),
    ],
)
def test_other_files_are_refused(
    tensors: dict[str, Any], change: dict[str, Any], reason: str, tmp_path: Path, slices: Slices
) -> None:
    changed = {name: value for name, value in {**tensors, **change}.items() if value is not None}
    save_file(changed, tmp_path / "decoder.safetensors")
    with pytest.raises(LoadError, match=reason):
        next(slices(tmp_path, latents()))


def test_another_model_of_diffusers_is_refused(folder: Path, slices: Slices) -> None:
    with pytest.raises(LoadError, match="does not take 4 channels"):
        next(slices(folder, latents()[:4]))


def test_other_settings_of_diffusers_are_refused(tmp_path: Path, slices: Slices) -> None:
    build(tmp_path, scaling_factor=0.5)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["scaling_factor"] == 0.5
    with pytest.raises(LoadError, match="only scaling_factor = 1"):
        next(slices(tmp_path, latents()))


def test_what_is_no_decoder_is_refused(tmp_path: Path, slices: Slices) -> None:
    with pytest.raises(LoadError, match="holds no decoder"):
        next(slices(tmp_path, latents()))
    (tmp_path / "decoder.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    with pytest.raises(LoadError, match="no numbered layers"):
        next(slices(tmp_path, latents()))
    (tmp_path / "decoder.safetensors").write_bytes(b"nothing")
    with pytest.raises(LoadError, match="shorter than its header"):
        next(slices(tmp_path, latents()))
