"""Pictures to put into files."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

from mlxsrv.core.image import Pixels


def quarters(width: int = 48, height: int = 32) -> Pixels:
    """Red, green, blue and grey, from the top left on."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = 220, 20, 30
    pixels[: height // 2, width // 2 :] = 30, 200, 40
    pixels[height // 2 :, : width // 2] = 20, 40, 230
    pixels[height // 2 :, width // 2 :] = 120, 120, 120
    return pixels


def saved(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def png(pixels: Pixels) -> bytes:
    return saved(Image.fromarray(pixels))


def png_of(width: int, height: int, data: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG file as its header says it is, whatever stands in it."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(map(_chunk, parts))


def bomb(width: int = 50_000, height: int = 50_000) -> bytes:
    """A few kilobytes that would be gigabytes of black."""
    return png_of(width, height, zlib.compress(bytes(3_000_000), 9))


def _chunk(part: tuple[bytes, bytes]) -> bytes:
    name, content = part
    check = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)
