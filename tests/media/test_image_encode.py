from __future__ import annotations

import io
import json
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from mlxsrv.media.image_encode import ImageFormat, encode_picture
from mlxsrv.media.image_notes import Notes, as_parameters
from tests.media.pictures import quarters

FORMATS = get_args(ImageFormat)
NOTES = Notes(
    "A red circle\non a blue background, ünïcödé 🎉",
    "org/flux",
    2**63,
    20,
    48,
    32,
    guidance=3.5,
    negative_prompt="dull",
)


def opened(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content))
    image.load()
    return image


@pytest.mark.parametrize("form", FORMATS)
def test_what_goes_in_comes_out(form: ImageFormat) -> None:
    image = opened(encode_picture(quarters(), form))
    assert image.format == form.upper()
    error = np.abs(np.asarray(image.convert("RGB")).astype(int) - quarters())
    assert error.mean() <= (3 if form == "jpeg" else 0)


@pytest.mark.parametrize("form", ["jpeg", "webp"])
def test_less_quality_makes_smaller_files(form: ImageFormat) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    sizes = [len(encode_picture(noise, form, quality=quality)) for quality in (0, 30, 70, 100)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1] / 4


def test_a_png_tells_how_it_was_made() -> None:
    image = opened(encode_picture(quarters(), "png", notes=NOTES))
    assert image.text["parameters"] == as_parameters(NOTES)  # type: ignore[attr-defined]
    assert image.info["parameters"].splitlines() == [
        "A red circle",
        "on a blue background, ünïcödé 🎉",
        "Negative prompt: dull",
        "Steps: 20, Sampler: Euler, CFG scale: 3.5, Seed: 9223372036854775808, Size: 48x32, "
        f"Model: org/flux, Version: {image.info['Software']}",
    ]
    assert json.loads(image.info["mlxsrv"]) == {
        "prompt": NOTES.prompt,
        "negative_prompt": "dull",
        "model": "org/flux",
        "seed": 2**63,
        "steps": 20,
        "guidance": 3.5,
        "size": "48x32",
        "software": image.info["Software"],
    }


@pytest.mark.parametrize("form", ["jpeg", "webp"])
def test_other_files_tell_it_in_a_comment(form: ImageFormat) -> None:
    image = opened(encode_picture(quarters(), form, notes=NOTES))
    comment = image.getexif().get_ifd(0x8769)[0x9286]
    assert comment.startswith(b"UNICODE\0")
    assert comment[8:].decode("utf-16-be") == as_parameters(NOTES)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("prompt", ["", "a\0b", "日本" * 20_000, "🎉" * 31_000])
def test_any_prompt_can_be_told(form: ImageFormat, prompt: str) -> None:
    image = opened(encode_picture(quarters(), form, notes=Notes(prompt, "m", 1, 2, 48, 32)))
    assert image.size == (48, 32)
    if form == "png":
        assert json.loads(image.info["mlxsrv"])["prompt"] == prompt


@pytest.mark.parametrize("form", FORMATS)
def test_nothing_is_told_without_notes(form: ImageFormat) -> None:
    image = opened(encode_picture(quarters(), form))
    assert not image.getexif()
    assert not {"parameters", "mlxsrv", "Software"} & set(image.info)
