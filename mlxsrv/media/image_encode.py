"""Pictures to the bytes of files."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Literal

from mlxsrv.core.image import Pixels
from mlxsrv.media.image_notes import SOFTWARE, Notes, as_json, as_parameters

if TYPE_CHECKING:
    from PIL import Image, PngImagePlugin

ImageFormat = Literal["png", "jpeg", "webp"]

MEDIA_TYPES: dict[ImageFormat, str] = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
}

BEST = 100
CLEAR_COLOURS = 90
"""From this quality on, JPEG keeps the full resolution of colours, too."""

LOSSLESS_EFFORT = 20
"""Of 100: more takes seconds a picture, for a few percent."""

PNG_EFFORT = 4
"""Of 9: twice as fast as zlib's usual 6, for files that are 1% larger."""

EXIF_SOFTWARE = 0x0131
EXIF_FOLDER = 0x8769
EXIF_COMMENT = 0x9286
MOST_COMMENT_BYTES = 60_000
"""A segment of a JPEG file, which holds all of EXIF, ends at 64 KB."""


def encode_picture(
    pixels: Pixels, format: ImageFormat, *, quality: int = BEST, notes: Notes | None = None
) -> bytes:
    """A complete file. `quality`, 0 to 100, is for JPEG and WebP, whose best is lossless."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format.upper(), **_options(format, quality, notes))
    return file.getvalue()


def _options(format: ImageFormat, quality: int, notes: Notes | None) -> dict[str, Any]:
    if format == "png":
        info = _png_texts(notes) if notes is not None else None
        return {"compress_level": PNG_EFFORT, "pnginfo": info}
    options: dict[str, Any] = {"quality": max(1, quality)}
    if format == "jpeg":
        options["subsampling"] = 0 if quality >= CLEAR_COLOURS else 2
    elif quality == BEST:
        options = {"lossless": True, "quality": LOSSLESS_EFFORT}
    if notes is not None:
        options["exif"] = _exif(notes)
    return options


def _png_texts(notes: Notes) -> PngImagePlugin.PngInfo:
    from PIL import PngImagePlugin

    info = PngImagePlugin.PngInfo()
    for name, text in (
        ("parameters", as_parameters(notes)),
        ("mlxsrv", as_json(notes)),
        ("Software", SOFTWARE),
    ):
        info.add_text(name, text.replace("\0", ""))
    return info


def _exif(notes: Notes) -> Image.Exif:
    """The parameters as a comment, where programs look for them in such files; the end of very
    long ones is missing. Its form: CIPA DC-008, UserComment."""
    from PIL import Image

    text = as_parameters(notes).encode("utf-16-be")
    exif = Image.Exif()
    exif[EXIF_SOFTWARE] = SOFTWARE
    exif[EXIF_FOLDER] = {EXIF_COMMENT: b"UNICODE\0" + text[:MOST_COMMENT_BYTES]}
    return exif
