"""What image models are said to take in memory, before anything of them is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxsrv.backends import checkpoint
from mlxsrv.backends.footprint import Footprint, Residence
from mlxsrv.backends.image_footprint import estimate_image
from tests.checkpoints import pipeline_files, safetensors

ENCODERS = 8 * 64 + 64 * 64
TRANSFORMER = 128 * 64 + 128
VAE = 4 * 27
SPARE = 64_000_000
ALL = ENCODERS + TRANSFORMER + VAE


def written(folder: Path, changed: dict[str, bytes]) -> checkpoint.Checkpoint:
    for name, content in pipeline_files(changed).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    return checkpoint.read(folder)


@pytest.fixture
def found(tmp_path: Path) -> checkpoint.Checkpoint:
    return written(tmp_path, {})


def staged(footprint: Footprint) -> Footprint:
    assert footprint.staged is not None
    return footprint.staged


@pytest.mark.parametrize("itemsize", [2, 4])
def test_encoders_need_not_stay(found: checkpoint.Checkpoint, itemsize: int) -> None:
    whole = estimate_image(found, Residence(itemsize * ALL, itemsize, 5, SPARE))
    assert whole.weights == itemsize * ALL
    assert staged(whole).weights == itemsize * (TRANSFORMER + VAE)
    # All it computes is reckoned with a picture of 64x64; what is read adds up with the encoders.
    assert whole.activations == staged(whole).activations == 0
    block = 28 * (512 + 16) * 64 * itemsize
    reading = 512 * (4 * 128 + 12 * 64) * itemsize
    spare = SPARE + 16 * 64 * 64
    assert block > reading
    assert whole.cache(0) == block + spare
    assert staged(whole).cache(0) == max(block, reading + itemsize * ENCODERS) + spare


def test_encoders_that_are_loaded_to_read_count_with_the_picture(tmp_path: Path) -> None:
    tensors = {"b.weight": ("F32", (2_000_000,))}
    files = {"text_encoder_2/model.safetensors": safetensors(tensors)}
    found = written(tmp_path, files)
    whole = estimate_image(found, Residence(found.weight_bytes, 4, 5, SPARE))
    assert staged(whole).weights == whole.weights - 8_000_000 - 2 * 8 * 64
    assert staged(whole).cache(0) > SPARE + 8_000_000 > whole.cache(0)


@pytest.mark.parametrize("bits", [4, 8])
def test_packed_weights_are_small(found: checkpoint.Checkpoint, bits: int) -> None:
    plain = estimate_image(found, Residence(2 * ALL, 2))
    packed = estimate_image(found, Residence(2 * ALL, 2), bits)
    matrices = ENCODERS + 128 * 64
    # A scale and a bias of two bytes each for 64 weights.
    assert packed.weights == matrices * bits // 8 + matrices // 16 + 2 * (128 + VAE)
    assert packed.weights < plain.weights
    assert packed.cache(0) == plain.cache(0)
