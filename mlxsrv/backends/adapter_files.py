"""Reading LoRA adapters as they are published: PEFT and mlx-lm folders.

PEFT: `adapter_config.json` and `adapter_model.safetensors`
(https://huggingface.co/docs/peft/developer_guides/checkpoint). mlx-lm: `adapter_config.json`
and `adapters.safetensors`, whose matrices stand the other way round.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from mlxsrv.backends.adapter import Adapter, LowRank
from mlxsrv.backends.adapter_config import (
    CONFIG,
    MAX_JSON_BYTES,
    MAX_PATH,
    Published,
    read_config,
    refused,
    shown,
)
from mlxsrv.backends.headers import Tensor, read_header
from mlxsrv.core.errors import InvalidRequest, LoadError

MAX_VALUE = 65504.0
"""What float16 can hold; trained values are a thousand times smaller."""

_COPY_OF_BASE = ".base_layer.weight"
"""PEFT stores the frozen weights of an output layer beside its LoRA."""


@dataclass(frozen=True, slots=True)
class _Stored:
    """A tensor and where its bytes begin in the file."""

    tensor: Tensor
    begin: int


def read_adapter(folder: Path, *, scale: float | None = None) -> Adapter:
    """The adapter in `folder`, its own scale multiplied by `scale`.

    Raises InvalidRequest for what is no adapter, is damaged, or is more than LoRA of linear
    layers. Nothing is ever unpickled.
    """
    if scale is not None and not math.isfinite(scale):
        raise InvalidRequest("scale must be a finite number", param="scale")
    try:
        return _read(folder, 1.0 if scale is None else scale)
    except LoadError as error:
        raise refused(str(error)) from error
    except OSError as error:
        raise refused(f"can't read {folder.name}: {error.strerror}") from error


def _read(folder: Path, scale: float) -> Adapter:
    if not folder.is_dir():
        raise refused(f"no such adapter folder: {folder}")
    published = read_config(folder)
    file = folder / published.file
    if not file.is_file():
        raise _missing(folder, published.file)
    pairs = _pairs(_stored(file), published)
    with file.open("rb") as stream:
        layers = {
            path: _layer(stream, path, parts, published, scale) for path, parts in pairs.items()
        }
    return Adapter(folder, layers)


def _missing(folder: Path, name: str) -> InvalidRequest:
    pickled = next(folder.glob("adapter_model.bin"), None)
    if pickled is not None:
        return refused(
            f"{folder.name} has only pickled weights, which can run code as they are read: "
            "save the adapter with safe_serialization=True"
        )
    return refused(f"{folder.name} has no {name}")


def _stored(file: Path) -> list[_Stored]:
    with file.open("rb") as stream:
        if int.from_bytes(stream.read(8), "little") > MAX_JSON_BYTES:
            raise refused(f"the header of {file.name} is too long, or the file is damaged")
    tensors = read_header(file)
    begin = file.stat().st_size - sum(tensor.size for tensor in tensors)
    stored = []
    for tensor in tensors:
        stored.append(_Stored(tensor, begin))
        begin += tensor.size
    return stored


def _pairs(stored: list[_Stored], published: Published) -> dict[str, dict[str, _Stored]]:
    """The two matrices of each layer, by its path and by `a` and `b`."""
    pairs: dict[str, dict[str, _Stored]] = {}
    for item in stored:
        if item.tensor.name.endswith(_COPY_OF_BASE):
            continue
        path, part = _path_and_part(item.tensor, published)
        parts = pairs.setdefault(path, {})
        if part in parts:
            raise refused(f"{path} has two matrices {part.upper()}")
        parts[part] = item
    if not pairs:
        raise refused(f"{published.file} holds no LoRA matrices")
    for path, parts in pairs.items():
        if len(parts) < 2:
            there, missing = ("A", "B") if "a" in parts else ("B", "A")
            raise refused(f"{path} has a matrix {there} but no matrix {missing}")
    return pairs


def _path_and_part(tensor: Tensor, published: Published) -> tuple[str, str]:
    name = shown(tensor.name)
    found = published.name.fullmatch(tensor.name)
    if found is None or len(tensor.name) > MAX_PATH:
        raise refused(f"{name} is {_what_else(tensor.name)}: only LoRA of linear layers is served")
    path: str = found["path"]
    if len(tensor.shape) == 3 or {"experts", "switch_mlp"} & set(path.split(".")):
        raise refused(f"{name} changes the experts of a mixture-of-experts model, not served yet")
    if len(tensor.shape) != 2:
        raise refused(f"{name} belongs to a convolution: only LoRA of linear layers is served")
    if tensor.dtype not in _AS_FLOAT32:
        raise refused(f"{name} is stored as {tensor.dtype}, not as F32, F16 or BF16")
    return path, found["part"].lower()


def _what_else(name: str) -> str:
    if "lora_embedding" in name:
        return "LoRA of an embedding"
    if "lora_magnitude" in name or name.endswith(".m"):
        return "of DoRA"
    if name.endswith(".bias"):
        return "a trained bias"
    return "a trained weight (modules_to_save, or a full fine-tune)"


def _layer(
    stream: BinaryIO, path: str, parts: Mapping[str, _Stored], published: Published, scale: float
) -> LowRank:
    a, b = _values(stream, parts["a"]), _values(stream, parts["b"])
    if published.transposed:
        a, b = a.T, b.T
    rank, own_scale = published.rank_and_scale(path)
    if not a.shape[0] == b.shape[1] == rank:
        raise refused(
            f"the ranks of {path} differ: {a.shape[0]} in its matrix A, {b.shape[1]} in B, "
            f"{rank} in {CONFIG}"
        )
    if not _largest(b) * abs(own_scale * scale) <= MAX_VALUE:
        raise refused(f"{path} with a scale of {own_scale * scale:g} holds values far too large")
    return LowRank(a, b, own_scale * scale)


def _values(stream: BinaryIO, stored: _Stored) -> NDArray[np.float32]:
    """A tensor as float32."""
    tensor = stored.tensor
    stream.seek(stored.begin)
    raw = stream.read(tensor.size)
    if len(raw) < tensor.size:
        raise refused(f"{shown(tensor.name)} is cut off")
    values = _AS_FLOAT32[tensor.dtype](raw).reshape(tensor.shape)
    if not _largest(values) <= MAX_VALUE:
        raise refused(f"{shown(tensor.name)} holds values that are not finite, or far too large")
    return values


def _largest(values: NDArray[np.float32]) -> float:
    """The largest absolute value; NaN where there is one."""
    return float(np.abs(values).max(initial=0.0))


def _widened(raw: bytes) -> NDArray[np.float32]:
    """bfloat16 is the upper half of float32."""
    return (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)


_AS_FLOAT32: dict[str, Callable[[bytes], NDArray[np.float32]]] = {
    "F32": lambda raw: np.frombuffer(raw, "<f4"),
    "F16": lambda raw: np.frombuffer(raw, "<f2").astype(np.float32),
    "BF16": _widened,
}
