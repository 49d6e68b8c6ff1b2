"""Safetensors headers: what a weight file holds, without reading a weight.

Format: 8 bytes little-endian header length, a JSON header, then the tensors end to end
(https://github.com/huggingface/safetensors#format).
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlxsrv.core.errors import LoadError

MAX_HEADER_BYTES = 100_000_000
"""The format's own limit."""

_DTYPES_BY_BITS = {
    8: ("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"),
    16: ("U16", "I16", "F16", "BF16"),
    32: ("U32", "I32", "F32"),
    64: ("U64", "I64", "F64"),
}
_ITEM_BITS = {dtype: bits for bits, dtypes in _DTYPES_BY_BITS.items() for dtype in dtypes}


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a weight file: `dtype` as the format writes it (`BF16`), size in bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    size: int

    @property
    def items(self) -> int:
        return math.prod(self.shape)


def read_header(file: Path) -> list[Tensor]:
    """The tensors of `file`. Raises LoadError where the file is truncated or corrupt.

    Reads nothing before it has checked that the file is long enough to hold it.
    """
    raw, data_bytes = _raw_header(file)
    tensors, end = _parse(file, raw)
    if end > data_bytes:
        raise _incomplete(file)
    if end < data_bytes:
        raise _corrupt(file, "it is longer than its header says")
    return tensors


def read_metadata(file: Path) -> dict[str, str]:
    """What is written about the file beside its tensors. Raises LoadError."""
    metadata = _entries(file, _raw_header(file)[0]).get("__metadata__")
    if not isinstance(metadata, dict):
        return {}
    return {key: value for key, value in metadata.items() if isinstance(value, str)}


def _raw_header(file: Path) -> tuple[bytes, int]:
    """The header, and how many bytes follow it."""
    try:
        total = file.stat().st_size
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if total < 8 or length > total - 8:
                raise _incomplete(file)
            if length > MAX_HEADER_BYTES:
                raise _corrupt(file, "its header is too long")
            return stream.read(length), total - 8 - length
    except OSError as error:
        raise LoadError(f"can't read {file}: {error.strerror}") from error


def _parse(file: Path, raw: bytes) -> tuple[list[Tensor], int]:
    """The tensors and where the last one ends, in bytes from the header's end."""
    entries = _entries(file, raw)
    entries.pop("__metadata__", None)
    spans = []
    for name, entry in entries.items():
        spans.append((*_span(file, name, entry), name, entry))
    spans.sort(key=lambda span: span[:2])
    tensors, position = [], 0
    for begin, end, name, entry in spans:
        if begin != position or end < begin:
            raise _corrupt(file, f"{name} does not stand where its header says")
        tensor = Tensor(name, entry["dtype"], tuple(entry["shape"]), end - begin)
        bits = _ITEM_BITS.get(tensor.dtype)
        if bits is not None and tensor.items * bits != tensor.size * 8:
            raise _corrupt(file, f"the size of {name} does not fit its shape")
        tensors.append(tensor)
        position = end
    return tensors, position


def _entries(file: Path, raw: bytes) -> dict[str, Any]:
    try:
        entries = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise _corrupt(file, "its header is not JSON") from error
    if not isinstance(entries, dict):
        raise _corrupt(file, "its header is not an object")
    return entries


def _span(file: Path, name: str, entry: Any) -> tuple[int, int]:
    if not (
        isinstance(entry, dict)
        and isinstance(entry.get("dtype"), str)
        and _counts(entry.get("shape"))
        and _counts(entry.get("data_offsets"))
        and len(entry["data_offsets"]) == 2
    ):
        raise _corrupt(file, f"the entry of {name} is malformed")
    begin, end = entry["data_offsets"]
    return begin, end


def _counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _incomplete(file: Path) -> LoadError:
    return LoadError(
        f"{file} is shorter than its header says: the download was cut off; fetch it again"
    )


def _corrupt(file: Path, why: str) -> LoadError:
    return LoadError(f"{file} is not a valid safetensors file: {why}")
