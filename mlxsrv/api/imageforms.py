"""The pictures that come with a request to be edited."""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import TypeVar

from pydantic import ValidationError
from starlette.requests import Request

from mlxsrv.api.form import Form, Upload, read_form
from mlxsrv.api.imagewanted import marks, marks_nothing
from mlxsrv.api.schemas.images import PictureFields
from mlxsrv.api.schemas.unserved import refuse
from mlxsrv.api.services import Services
from mlxsrv.api.validation import invalid_request
from mlxsrv.core.errors import InvalidRequest
from mlxsrv.core.image import Mask
from mlxsrv.media.image_decode import Picture, decode_picture

F = TypeVar("F", bound=PictureFields)

IMAGES = ("image", "image[]")
"""What fields with pictures are called."""


async def read_fields(request: Request, kind: type[F], held: AsyncExitStack) -> tuple[F, Form]:
    """A form and its text fields. Raises InvalidRequest, UnsupportedMedia."""
    form = await read_form(request, held)
    given = form.fields()
    try:
        return kind.model_validate_strings(given), form
    except ValidationError as error:
        raise invalid_request(
            [{**one, "loc": ("body", *one["loc"])} for one in error.errors()], given
        ) from None


async def read_pictures(form: Form, services: Services) -> tuple[Picture, ...]:
    """The pictures to begin with, at least one. Raises InvalidRequest."""
    uploads = [upload for name, upload in form.uploads if name in IMAGES]
    if not uploads:
        form.upload("image")
    names = ["image"] if len(uploads) == 1 else [f"image.{place}" for place in range(len(uploads))]
    return await _decoded(uploads, names, services)


async def read_mask(form: Form, picture: Picture, services: Services) -> Mask | None:
    """What marks the part of the picture to be made anew. Raises InvalidRequest."""
    if any(name == "markup" for name, _ in form.uploads):
        raise refuse("markup")
    if "mask" not in form:
        return None
    (given,) = await _decoded([form.upload("mask")], ["mask"], services)
    if given.size != picture.size:
        sizes = [f"{width}x{height}" for width, height in (given.size, picture.size)]
        raise _invalid("mask", f"has {sizes[0]} pixels, and the picture {sizes[1]}")
    mask = await asyncio.to_thread(lambda: given.mask)
    if not marks(mask):
        raise marks_nothing()
    return mask


async def read_text(text: str, param: str, services: Services) -> Picture:
    """A picture in base64, or a data URL of one. Raises InvalidRequest."""
    async with services.reading:
        return await asyncio.to_thread(
            _from_text, text, param, services.settings.api.max_image_pixels
        )


async def _decoded(
    uploads: Sequence[Upload], names: Sequence[str], services: Services
) -> tuple[Picture, ...]:
    """One after the other: a large file takes hundreds of megabytes while it is read, and no
    more than one of the threads that all requests share."""
    most = services.settings.api.max_image_pixels
    async with services.reading:
        return tuple(
            [
                await asyncio.to_thread(_decode, upload, name, most)
                for upload, name in zip(uploads, names, strict=True)
            ]
        )


def _decode(upload: Upload, name: str, most_pixels: int) -> Picture:
    with upload.open() as raw, io.BufferedReader(raw) as file:
        return decode_picture(file, name, most_pixels=most_pixels)


def _from_text(text: str, param: str, most_pixels: int) -> Picture:
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        content = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise _invalid(
            param, "should be a picture in base64; files of the server's are not read"
        ) from None
    return decode_picture(io.BytesIO(content), param, most_pixels=most_pixels)


def _invalid(param: str, reason: str) -> InvalidRequest:
    return InvalidRequest(f"{param}: {reason}", param=param)
