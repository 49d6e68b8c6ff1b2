"""About what each stage of a drawing takes in memory, beside the networks.

How many arrays of what size there are at once was measured; see tests/contract.
"""

from __future__ import annotations

from mlxsrv.backends.mlx.attention import score_bytes
from mlxsrv.backends.mlx.convolution import patch_bytes
from mlxsrv.backends.mlx.flux import FluxShape
from mlxsrv.backends.mlx.memory import DECODING
from mlxsrv.backends.mlx.t5 import T5Shape
from mlxsrv.backends.mlx.vae import VaeShape

BLOCK_ARRAYS = 32
"""Hidden states of all tokens, that a block has at once: queries, keys, values and what turns
them, and the wide ones of the feed-forward part."""


def transformer_bytes(shape: FluxShape, tokens: int, itemsize: int) -> int:
    """`tokens` of text and picture together."""
    hidden = tokens * shape.width * itemsize
    return BLOCK_ARRAYS * hidden + score_bytes(shape.heads, shape.head_width, tokens, itemsize)


def autoencoder_bytes(shape: VaeShape, height: int, width: int, itemsize: int) -> int:
    """Sides in pixels."""
    coarser = (*shape.channels[1:], shape.channels[-1])
    pairs = zip(shape.channels, coarser, strict=True)
    cells = max(max(pair) >> (2 * level) for level, pair in enumerate(pairs)) * height * width
    layers = DECODING * cells * itemsize + patch_bytes(cells * itemsize)
    area = height * width // shape.factor**2
    return layers + score_bytes(1, shape.channels[-1], area, itemsize)


def reading_bytes(shape: T5Shape, tokens: int, itemsize: int) -> int:
    """Of a prompt by T5."""
    hidden = tokens * (12 * shape.width + 4 * shape.inner)
    return (hidden + 4 * shape.heads * tokens**2) * itemsize
