"""Reading the parts of a FLUX.1 folder, as diffusers writes it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import mlx.core as mx
import mlx.nn as nn

from mlxsrv.backends.jsonfile import read_object
from mlxsrv.backends.mlx.clip import Clip, clip_shape
from mlxsrv.backends.mlx.encoder_load import loading_errors
from mlxsrv.backends.mlx.encoder_weights import Arrays, fill, read_arrays
from mlxsrv.backends.mlx.flux import FluxTransformer, flux_shape
from mlxsrv.backends.mlx.t5 import T5, t5_shape
from mlxsrv.backends.mlx.vae import Vae, vae_shape
from mlxsrv.core.errors import LoadError

Config = Mapping[str, Any]
T = TypeVar("T")
ModuleT = TypeVar("ModuleT", bound=nn.Module)

_EMBEDDINGS = "shared.weight"
_SAME_EMBEDDINGS = "encoder.embed_tokens.weight"


def after(before: int, loading: Generator[int, None, T]) -> Generator[int, None, tuple[T, int]]:
    """What a load gives that follows others, and the bytes that all have read, as it yields."""
    read = before
    while True:
        try:
            read = before + next(loading)
        except StopIteration as end:
            return end.value, read
        yield read


def load_transformer(folder: Path, bits: int | None) -> Generator[int, None, FluxTransformer]:
    """Yields the bytes read so far, as all of these. Raises LoadError."""
    return (yield from _load(folder, lambda config: FluxTransformer(flux_shape(config)), bits=bits))


def load_vae(folder: Path) -> Generator[int, None, Vae]:
    """In float32 where it is stored as float16, in which it overflows."""
    return (
        yield from _load(folder, lambda config: Vae(vae_shape(config)), _convolutions, mx.float32)
    )


def load_t5(folder: Path, bits: int | None) -> Generator[int, None, T5]:
    """In bfloat16 where it is stored as float16, in which it overflows."""
    return (
        yield from _load(folder, lambda config: T5(t5_shape(config)), _t5, mx.bfloat16, bits=bits)
    )


def load_clip(folder: Path) -> Generator[int, None, Clip]:
    return (yield from _load(folder, lambda config: Clip(clip_shape(config)), _clip))


def _load(
    folder: Path,
    make: Callable[[Config], ModuleT],
    renamed: Callable[[Arrays], Arrays] = dict,
    instead_of_half: mx.Dtype = mx.float16,
    *,
    bits: int | None = None,
) -> Generator[int, None, ModuleT]:
    config = read_object(folder / "config.json")
    with loading_errors(folder):
        _require_readable(folder, config)
        module = make(config)
        arrays = renamed(read_arrays(folder))
        for name, array in arrays.items():
            if array.dtype == mx.float16:
                arrays[name] = array.astype(instead_of_half)
        yield from fill(module, arrays, config, bits=bits)
    return module


def _require_readable(folder: Path, config: Config) -> None:
    other = config.get("quantization_config")
    if isinstance(other, dict) and "quantization" not in config:
        raise LoadError(
            f"{folder} is quantised as {other.get('quant_method', 'another library does')}, which "
            "MLX can't read: use the unquantised model, which can be packed as it is loaded "
            "(quantize = 4)"
        )


def _convolutions(arrays: Arrays) -> Arrays:
    """With inputs last, as MLX has them."""
    return {
        name: array.transpose(0, 2, 3, 1) if array.ndim == 4 else array
        for name, array in arrays.items()
    }


def _t5(arrays: Arrays) -> Arrays:
    """Some have the embeddings twice, some only under their other name."""
    same = arrays.pop(_SAME_EMBEDDINGS, None)
    if same is not None:
        arrays.setdefault(_EMBEDDINGS, same)
    return arrays


def _clip(arrays: Arrays) -> Arrays:
    """Without what older versions of transformers wrote besides, and before each name."""
    short = {name.removeprefix("text_model."): array for name, array in arrays.items()}
    short.pop("embeddings.position_ids", None)
    return short
