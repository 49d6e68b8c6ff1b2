"""Reading LoRA adapters as they are published: PEFT and mlx-lm folders.

PEFT: `adapter_config.json` and `adapter_model.safetensors`
(https://huggingface.co/docs/peft/developer_guides/checkpoint). mlx-lm: `adapter_config.json`
and `adapters.safetensors`, whose matrices stand the other way round.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from mlxsrv.backends.adapter import Adapter, LowRank
from mlxsrv.backends.adapter_config import (
    CONFIG,
    MAX_PATH,
    Published,
    read_config,
    refused,
    shown,
)
from mlxsrv.backends.adapter_tensors import (
    Stored,
    read_values,
    require_bounded,
    require_floats,
    stored_tensors,
)
from mlxsrv.backends.headers import Tensor
from mlxsrv.core.errors import InvalidRequest, LoadError

_COPY_OF_BASE = ".base_layer.weight"
"""PEFT stores the frozen weights of an output layer beside its LoRA."""


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
    pairs = _pairs(stored_tensors(file), published)
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


def _pairs(stored: list[Stored], published: Published) -> dict[str, dict[str, Stored]]:
    """The two matrices of each layer, by its path and by `a` and `b`."""
    pairs: dict[str, dict[str, Stored]] = {}
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
    require_floats(tensor)
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
    stream: BinaryIO, path: str, parts: Mapping[str, Stored], published: Published, scale: float
) -> LowRank:
    a, b = (read_values(stream, parts[part]) for part in ("a", "b"))
    if published.transposed:
        a, b = a.T, b.T
    rank, own_scale = published.rank_and_scale(path)
    if not a.shape[0] == b.shape[1] == rank:
        raise refused(
            f"the ranks of {path} differ: {a.shape[0]} in its matrix A, {b.shape[1]} in B, "
            f"{rank} in {CONFIG}"
        )
    require_bounded(path, b, own_scale * scale)
    return LowRank(a, b, own_scale * scale)
