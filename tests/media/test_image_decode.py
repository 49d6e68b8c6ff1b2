from __future__ import annotations

import io
import tracemalloc
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mlxsrv.core.errors import InvalidRequest
from mlxsrv.core.image import Pixels
from mlxsrv.media.image_decode import Picture, decode_picture
from tests.media.pictures import bomb, png, png_of, quarters, saved

SHARED = Path(__file__).parents[3] / "shared" / "data" / "images"
MANY = 4_000_000


def decoded(content: bytes, most_pixels: int = MANY) -> Picture:
    return decode_picture(io.BytesIO(content), "image", most_pixels=most_pixels)


def refused(content: bytes) -> str:
    with pytest.raises(InvalidRequest) as caught:
        decoded(content)
    assert caught.value.param == "image"
    return caught.value.message


def error(found: Pixels, wanted: Pixels) -> float:
    return float(np.abs(found.astype(int) - wanted).mean())


@pytest.mark.parametrize(
    ("form", "most"), [("PNG", 0), ("BMP", 0), ("GIF", 2), ("WEBP", 6), ("JPEG", 6)]
)
def test_every_format_is_read(form: str, most: float) -> None:
    picture = decoded(saved(Image.fromarray(quarters()), form))
    assert error(picture.pixels, quarters()) <= most
    assert picture.alpha is None
    assert picture.size == (48, 32)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA"])
def test_every_kind_of_png_is_read(mode: str) -> None:
    grey = np.repeat(np.linspace(0, 255, 48).astype(np.uint8)[None], 32, 0)
    image = Image.fromarray(grey).convert(mode)
    wanted = np.asarray(image.convert("RGB"))
    assert error(decoded(saved(image)).pixels, wanted) == 0


def test_sixteen_bits_become_eight() -> None:
    grey = np.repeat(np.linspace(0, 65_535, 48).astype(np.uint16)[None], 32, 0)
    picture = decoded(saved(Image.fromarray(grey)))
    np.testing.assert_array_equal(picture.pixels[..., 1], grey >> 8)


def test_printers_colours_become_red_green_and_blue() -> None:
    content = saved(Image.fromarray(quarters()).convert("CMYK"), "JPEG", quality=95)
    assert error(decoded(content).pixels, quarters()) < 12


def test_the_first_frame_counts() -> None:
    first, second = Image.fromarray(quarters()), Image.new("RGB", (48, 32), "white")
    for form in ("GIF", "WEBP", "PNG"):
        content = saved(first, form, save_all=True, append_images=[second], duration=50)
        assert error(decoded(content).pixels, quarters()) < 6, form


def test_cameras_that_were_turned_are_heeded() -> None:
    for value, turn in (
        (2, Image.Transpose.FLIP_LEFT_RIGHT),
        (3, Image.Transpose.ROTATE_180),
        (4, Image.Transpose.FLIP_TOP_BOTTOM),
        (5, Image.Transpose.TRANSPOSE),
        (6, Image.Transpose.ROTATE_90),
        (7, Image.Transpose.TRANSVERSE),
        (8, Image.Transpose.ROTATE_270),
    ):
        exif = Image.Exif()
        exif[0x0112] = value
        sensor = Image.fromarray(quarters()).transpose(turn)
        picture = decoded(saved(sensor, "PNG", exif=exif))
        assert error(picture.pixels, quarters()) == 0, value
        assert picture.size == (48, 32)


def test_broken_notes_do_not_matter() -> None:
    good = saved(Image.fromarray(quarters()), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff")
    assert decoded(good).size == (48, 32)


def test_what_is_transparent_is_shown_on_white_and_makes_a_mask() -> None:
    alpha = np.full((32, 48), 255, np.uint8)
    alpha[:16] = 0
    alpha[16:20] = 51
    image = Image.fromarray(np.dstack([quarters(), alpha]))
    picture = decoded(saved(image))
    assert picture.alpha is not None
    np.testing.assert_array_equal(picture.alpha, alpha)
    assert (picture.pixels[:16] == 255).all()
    assert error(picture.pixels[20:], quarters()[20:]) == 0
    expected = 255 - (255 - quarters()[16:20].astype(int)) * 0.2
    assert np.abs(picture.pixels[16:20] - expected).max() <= 1
    np.testing.assert_allclose(picture.mask[[0, 17, 31], 0], [1, 0.8, 0])


def test_a_palettes_transparent_colour_counts() -> None:
    image = Image.fromarray(quarters()).quantize(4)
    image.info["transparency"] = image.getpixel((0, 0))
    picture = decoded(saved(image, "GIF"))
    assert picture.alpha is not None
    assert (picture.alpha == 0).mean() == 0.25


def test_without_transparency_white_is_the_mask() -> None:
    pixels = np.zeros((32, 48, 3), np.uint8)
    pixels[:, :10] = 255
    opaque = np.dstack([pixels, np.full((32, 48), 255, np.uint8)])
    for content in (png(pixels), saved(Image.fromarray(opaque)), png(pixels[..., 0])):
        mask = decoded(content).mask
        assert mask.dtype == np.float32
        np.testing.assert_array_equal(mask, pixels[..., 0] / 255)


def test_large_pictures_are_shrunk_in_shape() -> None:
    picture = decoded(png(quarters(1200, 800)), most_pixels=60_000)
    assert picture.size == (1200, 800)
    assert picture.pixels.shape == (200, 300, 3)
    assert error(picture.pixels, quarters(300, 200)) < 2


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared pictures are not here")
def test_real_pictures_are_read() -> None:
    for file in sorted(SHARED.iterdir()):
        picture = decoded(file.read_bytes())
        assert picture.pixels.std() > 20
        assert picture.alpha is None


def test_other_files_are_no_pictures() -> None:
    for content in (
        b"",
        b"\0",
        b"This is text.",
        b"\x89PNG\r\n\x1a\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"RIFF\x24\0\0\0WAVEfmt ",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        saved(Image.fromarray(quarters()), "TIFF"),
        saved(Image.fromarray(quarters()), "PPM"),
        bytes(10_000),
    ):
        message = refused(content)
        assert "not a picture" in message or "damaged" in message


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_half_a_file_is_refused(form: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    content = saved(Image.fromarray(noise), form)
    for share in (0.9, 0.5, 0.2):
        refused(content[: int(len(content) * share)])


def test_bombs_are_refused_by_their_header() -> None:
    for width, height in ((7100, 7100), (10_000, 10_000), (50_000, 50_000), (2**31 - 1, 2**31 - 1)):
        message = refused(bomb(width, height))
        assert "too large" in message
    assert "damaged" in refused(bomb(6000, 6000))


def test_packed_notes_are_not_unpacked() -> None:
    packed = zlib.compress(bytes(100_000_000), 9)
    rows = zlib.compress(b"".join(b"\0" + bytes(12) for _ in range(4)))
    tracemalloc.start()
    for name, head in ((b"iCCP", b"x\0\0"), (b"zTXt", b"x\0\0"), (b"iTXt", b"x\0\1\0\0\0")):
        content = png_of(4, 4, rows, (name, head + packed))
        with suppress(InvalidRequest):
            decoded(content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50_000_000


@settings(max_examples=150)
@given(
    form=st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "BMP"]),
    edits=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=8),
    cut=st.integers(0, 400),
)
def test_damaged_files_raise_nothing_else(
    form: str, edits: list[tuple[int, int]], cut: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {} if form in {"GIF", "BMP"} else {"exif": exif}
    content = bytearray(saved(Image.fromarray(quarters()), form, **options))
    for place, value in edits:
        content[place % len(content)] = value
    del content[len(content) - cut % len(content) :]
    with suppress(InvalidRequest):
        picture = decoded(bytes(content), most_pixels=100_000)
        assert picture.pixels.dtype == np.uint8
        assert picture.pixels.size <= 300_000
