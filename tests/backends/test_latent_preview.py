"""Guesses of what latents look like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mlxsrv.backends.latent_preview import fit, sample
from mlxsrv.core.image import Pixels

DATA = Path(__file__).parents[3] / "shared" / "data"


GREY = (0.2, 0.5, 0.7)


def test_a_linear_decoder_is_found_out() -> None:
    latents = sample(16)
    matrix = np.random.default_rng(0).standard_normal((16, 3)) * 0.03
    colours = np.einsum("chw,cd->hwd", latents, matrix) + np.array(GREY)
    pixels = np.round(np.clip(colours, 0, 1) * 255).repeat(8, axis=0).repeat(8, axis=1)
    preview = fit(latents, pixels.astype(np.uint8))
    fresh = np.random.default_rng(1).standard_normal((16, 5, 9)).astype(np.float32)
    expected = np.clip(np.einsum("chw,cd->hwd", fresh, matrix) + np.array(GREY), 0, 1) * 255
    found = preview.picture(fresh)
    assert found.shape == (5, 9, 3)
    assert np.abs(found - expected).max() < 12


def test_whatever_the_latents_are_the_picture_is_one() -> None:
    preview = fit(sample(4), np.full((32, 32, 3), 100, np.uint8))
    wild = np.full((4, 2, 2), np.nan, np.float32)
    wild[:, 0] = np.inf
    assert preview.picture(wild).shape == (2, 2, 3)
    assert (preview.picture(np.zeros((4, 2, 2), np.float32)) == 100).all()


def test_the_sample_is_the_same_every_time() -> None:
    assert np.array_equal(sample(16), sample(16))


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "taef1").is_dir(), reason="../shared/data is not there")
def test_a_real_picture_is_recognised_in_its_preview() -> None:
    """The latents of FLUX.1, which a small decoder knows too."""
    import torch
    from safetensors.torch import load_file

    from mlxsrv.backends.torch.taef1 import load_taef1

    encoder = tiny_encoder(load_file(DATA / "taef1" / "taef1_encoder.safetensors"))
    decoder = load_taef1(DATA / "taef1" / "taef1_decoder.safetensors", 16)
    picture = Image.open(next((DATA / "images").glob("*.jp*g"))).convert("RGB").resize((256, 256))
    pixels: Pixels = np.asarray(picture)
    with torch.no_grad():
        latents = encoder(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None] / 255)
    preview = fit(sample(16), decoder(torch.from_numpy(sample(16))[None]))
    cells = pixels.reshape(32, 8, 32, 8, 3).mean(axis=(1, 3))
    guess = preview.picture(latents[0].numpy())
    assert np.corrcoef(guess.ravel(), cells.ravel())[0, 1] > 0.8


def tiny_encoder(tensors: dict[str, Any]) -> Any:
    from diffusers.models.autoencoders.vae import EncoderTiny

    encoder = EncoderTiny(3, 16, (1, 3, 3, 3), (64, 64, 64, 64), "relu")
    encoder.layers.load_state_dict(tensors)
    return encoder.layers.eval()
