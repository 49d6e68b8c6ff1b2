"""The tensors of an adapter's file, as float32 and within bounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from mlxsrv.backends.adapter_config import MAX_JSON_BYTES, refused, shown
from mlxsrv.backends.headers import Tensor, read_header

MAX_VALUE = 65504.0
"""What float16 can hold; trained values are a thousand times smaller."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor and where its bytes begin in the file."""

    tensor: Tensor
    begin: int


def stored_tensors(file: Path) -> list[Stored]:
    """What is in `file`. Raises InvalidRequest, LoadError, and OSError where it can't be read."""
    with file.open("rb") as stream:
        if int.from_bytes(stream.read(8), "little") > MAX_JSON_BYTES:
            raise refused(f"the header of {file.name} is too long, or the file is damaged")
    tensors = read_header(file)
    begin = file.stat().st_size - sum(tensor.size for tensor in tensors)
    stored = []
    for tensor in tensors:
        stored.append(Stored(tensor, begin))
        begin += tensor.size
    return stored


def require_floats(tensor: Tensor) -> None:
    """Raises InvalidRequest."""
    if tensor.dtype not in _AS_FLOAT32:
        raise refused(f"{shown(tensor.name)} is stored as {tensor.dtype}, not as F32, F16 or BF16")


def read_values(stream: BinaryIO, stored: Stored) -> NDArray[np.float32]:
    """A tensor of floats as float32. Raises InvalidRequest."""
    tensor = stored.tensor
    stream.seek(stored.begin)
    raw = stream.read(tensor.size)
    if len(raw) < tensor.size:
        raise refused(f"{shown(tensor.name)} is cut off")
    values = _AS_FLOAT32[tensor.dtype](raw).reshape(tensor.shape)
    if not _largest(values) <= MAX_VALUE:
        raise refused(f"{shown(tensor.name)} holds values that are not finite, or far too large")
    return values


def require_bounded(path: str, b: NDArray[np.float32], scale: float) -> None:
    """Raises InvalidRequest where the matrix B of a layer with its scale goes beyond float16."""
    if not _largest(b) * abs(scale) <= MAX_VALUE:
        raise refused(f"{path} with a scale of {scale:g} holds values far too large")


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
