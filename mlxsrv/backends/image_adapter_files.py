"""Reading LoRA adapters of image models as they are published: one safetensors file.

Its tensors may be named as any of the usual trainers names them (`image_adapter_names`). The
layers' paths are those of diffusers' transformer. PEFT's folders are read as for text models.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from mlxsrv.backends.adapter import Adapter, LowRank
from mlxsrv.backends.adapter_config import (
    CONFIG,
    MAX_PATH,
    MAX_RANK,
    RankAndScale,
    peft_rank_and_scale,
    refused,
    shown,
)
from mlxsrv.backends.adapter_files import read_adapter
from mlxsrv.backends.adapter_tensors import (
    Stored,
    read_values,
    require_bounded,
    require_floats,
    stored_tensors,
)
from mlxsrv.backends.headers import Tensor, read_metadata
from mlxsrv.backends.image_adapter_names import (
    Target,
    bare,
    of_text_encoder,
    path_and_part,
    target,
)
from mlxsrv.core.errors import InvalidRequest, LoadError

_DIFFUSERS_FILE = "pytorch_lora_weights.safetensors"
_DIFFUSERS_METADATA = "lora_adapter_metadata"
_OF_TRANSFORMER = "transformer."

_OTHER_THAN_LORA = {
    "dora_scale": "of DoRA",
    "lora_magnitude": "of DoRA",
    "lokr_": "of LoKr",
    "hada_": "of LoHa",
    "lora_mid": "of a convolution",
    ".diff": "a trained difference of weights",
    ".bias": "a trained bias",
    "norm": "a trained norm",
}
_PICKLED = frozenset({".bin", ".pt", ".pth", ".ckpt"})

Matrix = NDArray[np.float32]
Parts = Mapping[str, Stored]


def read_image_adapter(path: Path, *, scale: float | None = None) -> Adapter:
    """The adapter in a safetensors file or in a folder with one; its own scale times `scale`.

    Raises InvalidRequest for what is no adapter, is damaged, or is more than LoRA of the
    transformer's linear layers. Nothing is ever unpickled.
    """
    if scale is not None and not math.isfinite(scale):
        raise InvalidRequest("scale must be a finite number", param="scale")
    try:
        if (path / CONFIG).is_file():
            return read_adapter(path, scale=scale)
        return Adapter(path, dict(_layers(_file(path), 1.0 if scale is None else scale)))
    except LoadError as error:
        raise refused(str(error)) from error
    except OSError as error:
        raise refused(f"can't read {path.name}: {error.strerror}") from error


def _file(path: Path) -> Path:
    if path.is_file():
        return _readable(path)
    if not path.is_dir():
        raise refused(f"no such adapter file or folder: {path}")
    usual = path / _DIFFUSERS_FILE
    files = [usual] if usual.is_file() else sorted(path.glob("*.safetensors"))
    if len(files) == 1:
        return files[0]
    if files:
        names = ", ".join(file.name for file in files[:5])
        raise refused(f"{path.name} holds several adapters: give the path of one of {names}")
    for file in path.iterdir():
        if file.suffix in _PICKLED:
            raise _pickled(file)
    raise refused(f"{path.name} holds no safetensors file")


def _readable(file: Path) -> Path:
    if file.suffix in _PICKLED:
        raise _pickled(file)
    if file.suffix != ".safetensors":
        raise refused(f"{file.name} is not a safetensors file")
    return file


def _pickled(file: Path) -> InvalidRequest:
    return refused(
        f"{file.name} is pickled, which can run code as it is read: convert it to safetensors"
    )


def _layers(file: Path, scale: float) -> Iterator[tuple[str, LowRank]]:
    by_path = _by_path(stored_tensors(file))
    published = _published(file)
    with file.open("rb") as stream:
        _require_text_encoders_unchanged(stream, by_path)
        done: set[str] = set()
        for path, parts in by_path.items():
            if of_text_encoder(path):
                continue
            for own, layer in _layer(stream, path, parts, published, scale):
                if own in done:
                    raise refused(f"{shown(path)} and another of its layers are the same")
                done.add(own)
                yield own, layer
    if not done:
        raise refused(f"{file.name} holds no LoRA matrices")


def _by_path(stored: list[Stored]) -> dict[str, dict[str, Stored]]:
    """What belongs to each layer of the adapter, by its path and by `a`, `b` and `alpha`."""
    by_path: dict[str, dict[str, Stored]] = {}
    for item in stored:
        found = path_and_part(item.tensor.name)
        if found is None or len(item.tensor.name) > MAX_PATH:
            raise _not_lora(item.tensor)
        path, part = found
        _require_shape(item.tensor, part)
        parts = by_path.setdefault(path, {})
        if part in parts:
            raise refused(f"{shown(path)} has two of {part.upper()}")
        parts[part] = item
    for path, parts in by_path.items():
        if not {"a", "b"} <= parts.keys():
            raise refused(f"{shown(path)} lacks its matrix {'B' if 'a' in parts else 'A'}")
    return by_path


def _not_lora(tensor: Tensor) -> InvalidRequest:
    name = tensor.name
    kind = next((kind for mark, kind in _OTHER_THAN_LORA.items() if mark in name), "no LoRA")
    return refused(f"{shown(name)} is {kind}: only LoRA of linear layers is served")


def _require_shape(tensor: Tensor, part: str) -> None:
    require_floats(tensor)
    if part == "alpha":
        if tensor.items != 1:
            raise refused(f"{shown(tensor.name)} is not a number")
    elif len(tensor.shape) != 2:
        raise refused(f"{shown(tensor.name)} is of a convolution: only linear layers are served")


def _published(file: Path) -> RankAndScale | None:
    """What diffusers wrote about the adapter that it saved, if it is that."""
    text = read_metadata(file).get(_DIFFUSERS_METADATA)
    if text is None:
        return None
    try:
        settings = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise refused(f"the metadata of {file.name} is not valid JSON") from error
    if not isinstance(settings, dict):
        raise refused(f"the metadata of {file.name} should be a JSON object")
    own = {
        key.removeprefix(_OF_TRANSFORMER): value
        for key, value in settings.items()
        if key.startswith(_OF_TRANSFORMER)
    }
    return peft_rank_and_scale({"peft_type": "LORA", **own}) if own else None


def _require_text_encoders_unchanged(
    stream: BinaryIO, by_path: Mapping[str, Mapping[str, Stored]]
) -> None:
    """Some files hold them, all zeros."""
    for path, parts in by_path.items():
        if of_text_encoder(path) and read_values(stream, parts["b"]).any():
            raise refused(
                f"{shown(path)} changes a text encoder, and only the transformer's layers are "
                "served: use a version of the adapter that was trained without text encoders"
            )


def _layer(
    stream: BinaryIO, path: str, parts: Parts, published: RankAndScale | None, scale: float
) -> Iterator[tuple[str, LowRank]]:
    """The layer of the adapter, as so many of diffusers'."""
    found = target(path)
    if found is None:
        raise refused(f"{shown(path)} is not a layer of a model that is served")
    a, b = read_values(stream, parts["a"]), read_values(stream, parts["b"])
    rank = len(a)
    if not 0 < rank == b.shape[1] <= MAX_RANK:
        raise refused(
            f"the ranks of {shown(path)} should be the same, from 1 to {MAX_RANK}: {rank} in its "
            f"matrix A, {b.shape[1]} in B"
        )
    own_scale = _own_scale(stream, path, parts, published, rank) * scale
    require_bounded(shown(path), b, own_scale)
    for own, outputs in zip(found.paths, _split(path, found, a, b), strict=True):
        yield own, LowRank(a, outputs, own_scale)


def _own_scale(
    stream: BinaryIO, path: str, parts: Parts, published: RankAndScale | None, rank: int
) -> float:
    """Where nothing is said of it, the matrices are to be used as they are."""
    if "alpha" in parts:
        return float(read_values(stream, parts["alpha"]).item()) / rank
    if published is None:
        return 1.0
    said, own_scale = published(bare(path))
    if said != rank:
        raise refused(f"the rank of {shown(path)} is {rank}, but {said} in the file's metadata")
    return own_scale


def _split(path: str, found: Target, a: Matrix, b: Matrix) -> list[Matrix]:
    """The rows of B for each of the layers: queries, keys, values of the same size, and the rest.

    A layer that is all of these at once has as many queries as inputs.
    """
    count = len(found.paths)
    size = a.shape[1] if count == 4 else len(b) // count
    if len(b) <= size * 3 if count == 4 else len(b) % count:
        raise refused(f"{shown(path)} has {len(b)} outputs, which do not fit its layers")
    if found.swapped:
        return [np.roll(b, len(b) // 2, axis=0)]
    return np.split(b, [size * place for place in range(1, count)])
