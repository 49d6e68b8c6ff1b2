"""Pictures from files that nobody vouches for."""

from __future__ import annotations

import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mlxsrv.core.errors import InvalidRequest
from mlxsrv.core.image import Mask, Pixels

if TYPE_CHECKING:
    from PIL import Image

    Loaded: TypeAlias = Image.Image

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
"""Whose decoders are common and much tested; others are not tried."""

MAX_PIXELS = 50_000_000
"""Of a file, by its header: cameras make 50 megapixels, and decoded they are 200 MB."""

ORIENTATION = 0x0112
"""The EXIF tag, and Pillow's name for what undoes each of its values (CIPA DC-008, 4.6.4)."""
UPRIGHT = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}

_TURN = threading.Lock()
"""One file is decoded at a time: several large ones would fill the memory."""

_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    ArithmeticError,
    MemoryError,
    struct.error,
    zlib.error,
)
"""What Pillow raises for files that are not as they should be."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded file, upright. `alpha` [height, width] is None where all of it is opaque; `pixels`
    show it on white. `size` is the file's own (width, height): very large ones are shrunk."""

    pixels: Pixels
    alpha: NDArray[np.uint8] | None
    size: tuple[int, int]

    @property
    def mask(self) -> Mask:
        """What it marks to be made anew: what is transparent, or else what is white."""
        if self.alpha is not None:
            marked: Mask = np.divide(255 - self.alpha, 255, dtype=np.float32)
        else:
            marked = np.divide(self.pixels.mean(axis=2, dtype=np.float32), 255, dtype=np.float32)
        return marked


def decode_picture(source: BinaryIO, param: str, *, most_pixels: int) -> Picture:
    """Reads a file's first frame; larger ones than `most_pixels` are shrunk to about that.

    Raises InvalidRequest that names `param`, for large ones before anything is decoded.
    """
    from PIL import Image, UnidentifiedImageError

    with _TURN, _quiet():
        try:
            with Image.open(source, formats=FORMATS) as image:
                _check_size(image.size, param)
                upright = _upright(image)
                return _picture(upright, most_pixels)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise _too_large(param) from None
        except UnidentifiedImageError:
            known = ", ".join(FORMATS)
            raise InvalidRequest(
                f"{param}: This is not a picture that can be read ({known})", param=param
            ) from None
        except _BROKEN:
            raise InvalidRequest(f"{param}: The picture is damaged", param=param) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Pillow warns of odd metadata, which matter to nobody here, and of large pictures."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def _check_size(size: tuple[int, int], param: str) -> None:
    if size[0] * size[1] > MAX_PIXELS:
        raise _too_large(param, f" of {size[0]}x{size[1]} pixels")


def _too_large(param: str, what: str = "") -> InvalidRequest:
    most = MAX_PIXELS // 1_000_000
    return InvalidRequest(
        f"{param}: The picture{what} is too large: at most {most} megapixels are read", param=param
    )


def _upright(image: Loaded) -> Loaded:
    from PIL import Image

    image.load()
    try:
        turned = UPRIGHT.get(image.getexif().get(ORIENTATION, 1))
    except _BROKEN:
        return image
    return image if turned is None else image.transpose(Image.Transpose[turned])


def _picture(image: Loaded, most_pixels: int) -> Picture:
    from PIL import Image

    image, size = _plain(image), image.size
    scale = (most_pixels / (size[0] * size[1])) ** 0.5
    if scale < 1:
        smaller = max(1, int(size[0] * scale)), max(1, int(size[1] * scale))
        image = image.resize(smaller, Image.Resampling.LANCZOS, reducing_gap=2.0)
    if image.mode == "RGB":
        return Picture(np.asarray(image), None, size)
    alpha = np.asarray(image.getchannel("A"))
    white = Image.new("RGBA", image.size, "white")
    pixels = np.asarray(Image.alpha_composite(white, image).convert("RGB"))
    return Picture(pixels, alpha if alpha.min() < 255 else None, size)


def _plain(image: Loaded) -> Loaded:
    """As RGB, or as RGBA where some of it may be transparent."""
    from PIL import Image

    if image.mode.startswith("I"):
        grey: NDArray[Any] = np.asarray(image)
        return Image.fromarray((grey.astype(np.uint32) >> 8).astype(np.uint8)).convert("RGB")
    mode = "RGBA" if image.has_transparency_data else "RGB"
    return image if image.mode == mode else image.convert(mode)
