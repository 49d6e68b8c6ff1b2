"""How FLUX.1 lays a picture out as tokens. Pure; for arrays of numpy and MLX alike.

A token is 2x2 latents; where it stands, three numbers tell: which picture it belongs to (0: what
is drawn and the text, 1: a reference), row and column.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlxsrv.core.image import HALF

PATCH = 2

Places = NDArray[np.int64]


def packed(latents: Any) -> Any:
    """Tokens [1, rows * columns, 4 * channels] of latents [channels, height, width]."""
    channels, height, width = latents.shape
    patches = latents.reshape(channels, height // PATCH, PATCH, width // PATCH, PATCH)
    return patches.transpose(1, 3, 0, 2, 4).reshape(1, -1, channels * PATCH * PATCH)


def unpacked(tokens: Any, height: int, width: int) -> Any:
    """Latents [channels, height, width] of their tokens."""
    patches = tokens.reshape(height // PATCH, width // PATCH, -1, PATCH, PATCH)
    return patches.transpose(2, 0, 3, 1, 4).reshape(-1, height, width)


def text_places(tokens: int) -> Places:
    return np.zeros((tokens, 3), np.int64)


def picture_places(height: int, width: int, picture: int = 0) -> Places:
    """Of latents with these sides [tokens, 3]."""
    rows, columns = np.indices((height // PATCH, width // PATCH))
    return np.stack([np.full_like(rows, picture), rows, columns], axis=-1).reshape(-1, 3)


def kept(mask: NDArray[np.float32], factor: int) -> NDArray[np.bool_]:
    """Which latents [height, width] of a masked picture stay as they are: those whose pixels all
    do. So no stroke is too thin; pixels beside it are put back when the picture is done.

    diffusers' FluxInpaintPipeline goes by the first pixel of each.
    """
    height, width = (side // factor for side in mask.shape)
    found: NDArray[np.bool_] = mask.reshape(height, factor, width, factor).max((1, 3)) < HALF
    return found


def holes(hole: NDArray[np.bool_], factor: int) -> NDArray[np.float32]:
    """Which pixels of each latent are to be filled [factor * factor, height, width], of those of
    a picture."""
    height, width = (side // factor for side in hole.shape)
    cells = hole.reshape(height, factor, width, factor).transpose(1, 3, 0, 2)
    found: NDArray[np.float32] = cells.reshape(-1, height, width).astype(np.float32)
    return found
