"""What an image model will take in memory, from its parts' configurations and headers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlxsrv.backends.checkpoint import Checkpoint
from mlxsrv.backends.footprint import Footprint, Residence
from mlxsrv.backends.headers import Tensor
from mlxsrv.backends.pipeline import Part, read_pipeline

PROMPT_TOKENS = 512
"""That are read at once."""

SIDE = 1024
"""Of a picture in pixels, where the model names no usual one."""

PATCH = 16
"""Pixels along a side of what one token stands for."""

BLOCK_ARRAYS = 28
"""Hidden states of all tokens, that a block of a transformer has at once."""

SCORES = 5
"""Arrays of what each token of a prompt thinks of each other one, in single precision."""

SCORE_BYTES = 256_000_000
"""That the cells of a picture take at most as they attend to each other in the decoder."""

CELL = 8
"""Pixels along a side of one of them."""

GROUP = 64
"""Weights that share a scale and a bias where they are packed."""

_TABLES = ("shared.weight", "embed_tokens.weight", "embedding.weight")
_ITEMSIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}


def estimate_image(
    checkpoint: Checkpoint, residence: Residence, quantize: int | None = None
) -> Footprint:
    """The footprint of a pipeline held as `residence` says, its weights packed to `quantize` bits
    where given. Its staged form has the text encoders in memory only while they read a prompt.

    All that is computed belongs to a picture, and is reserved as it begins; here it is that of a
    picture of the usual size, about what the backends will say.
    """
    parts = read_pipeline(checkpoint.folder).parts
    itemsize, side = residence.itemsize, _usual_side(parts)
    widened = residence.weights != checkpoint.weight_bytes
    sizes = {part.name: _held(part, itemsize, widened, quantize) for part in parts}
    weights = sum(sizes.values())
    encoders = sum(sizes[part.name] for part in parts if part.is_encoder)
    reading = max((_reading(part, itemsize) for part in parts), default=0)
    drawing = max((_drawing(part, side, residence) for part in parts), default=0)
    spare = residence.spare + 16 * side**2
    staged = max(reading + encoders, drawing) + spare
    return Footprint(
        weights,
        activations=0,
        per_request=max(reading, drawing) + spare,
        staged=Footprint(weights - encoders, activations=0, per_request=staged),
    )


def _held(part: Part, itemsize: int, widened: bool, quantize: int | None) -> int:
    packs = quantize is not None and (part.name == "transformer" or part.is_encoder)
    total = 0
    for tensor in part.tensors:
        each = itemsize if widened else _ITEMSIZES.get(tensor.dtype, itemsize)
        if quantize is not None and packs and _packable(tensor):
            total += tensor.items * quantize // 8 + 2 * each * tensor.items // GROUP
        else:
            total += tensor.items * each if tensor.dtype in _ITEMSIZES else tensor.size
    return total


def _packable(tensor: Tensor) -> bool:
    """Whether it is the matrix of a layer, not a table."""
    fits = len(tensor.shape) == 2 and tensor.shape[1] % GROUP == 0
    return fits and tensor.dtype in _ITEMSIZES and not tensor.name.endswith(_TABLES)


def _reading(part: Part, itemsize: int) -> int:
    """What a text encoder computes for a prompt: the widest point of a layer, and every layer's
    hidden states."""
    if not part.is_encoder:
        return 0
    hidden = _number(part.config, "hidden_size", "d_model")
    inner = _number(part.config, "intermediate_size", "d_ff") or 4 * hidden
    layers = _number(part.config, "num_hidden_layers", "num_layers")
    heads = _number(part.config, "num_attention_heads", "num_heads")
    numbers = PROMPT_TOKENS * (4 * inner + (12 + layers) * hidden)
    return numbers * itemsize + SCORES * heads * PROMPT_TOKENS**2 * 4


def _drawing(part: Part, side: int, residence: Residence) -> int:
    """A block of the transformer for all tokens, or the widest layers of the decoder."""
    if part.name == "transformer":
        width = _number(part.config, "num_attention_heads") * _number(
            part.config, "attention_head_dim"
        )
        width = width or _number(part.config, "dim")
        tokens = PROMPT_TOKENS + (side // PATCH) ** 2
        return BLOCK_ARRAYS * tokens * width * residence.itemsize
    channels = part.config.get("block_out_channels")
    if part.name == "vae" and isinstance(channels, list):
        widest = side**2 * max(channels[:2], default=0) * residence.itemsize
        scores = 2 * (side // CELL) ** 4 * residence.itemsize
        return residence.decoding * widest + min(scores, SCORE_BYTES)
    return 0


def _usual_side(parts: Sequence[Part]) -> int:
    sides = [_number(part.config, "sample_size") for part in parts if part.name == "vae"]
    return min((side for side in sides if side), default=SIDE)


def _number(config: Mapping[str, Any], *keys: str) -> int:
    places = (config, config.get("text_config"))
    found = (place.get(key) for place in places if isinstance(place, dict) for key in keys)
    return next((value for value in found if isinstance(value, int)), 0)
