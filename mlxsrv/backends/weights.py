"""Which files of a folder hold the weights, and what is refused instead of loaded."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

from mlxsrv.core.errors import CheckpointRefused, LoadError

_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_SHARD = re.compile(r"^(?P<stem>.+)-\d{5}-of-(?P<count>\d{5})\.safetensors$")
_VARIANT = re.compile(
    r"^(model|diffusion_pytorch_model)\.(?P<variant>\w+)(-\d{5}-of-\d{5})?\.safetensors$"
)
PACKED_WEIGHTS = "weights.npz"
"""What mlx-whisper's first conversions are called."""

_ADAPTERS = frozenset(
    {"adapter_model.safetensors", "adapters.safetensors", "pytorch_lora_weights.safetensors"}
)


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The safetensors files of the model in `folder`, every shard there; else its npz.

    Raises CheckpointRefused for formats that are never loaded (pickles run code as they are
    read; GGUF belongs to another runtime), LoadError for what is missing.
    """
    indexes = sorted(folder.glob("*.safetensors.index.json"))
    if indexes:
        return _indexed(folder, indexes[0])
    names = [
        file.name
        for file in folder.glob("*.safetensors")
        if file.name not in _ADAPTERS and not file.name.startswith("consolidated")
    ]
    files = [folder / name for name in one_variant(names)]
    if not files and (folder / PACKED_WEIGHTS).is_file():
        return (folder / PACKED_WEIGHTS,)
    if not files:
        raise _nothing_to_load(folder)
    for file in files:
        shard = _SHARD.match(file.name)
        if shard:
            _require_shards(folder, shard["stem"], shard["count"])
    dangling = [file.name for file in files if not file.is_file()]
    if dangling:
        raise _missing(folder, dangling)
    return tuple(files)


def one_variant(names: Iterable[str]) -> list[str]:
    """The same weights may lie there in several precisions (`model.fp16.safetensors`): those that
    are named without one, else of the first one only."""
    variants: dict[str, list[str]] = {}
    for name in sorted(names):
        found = _VARIANT.match(name)
        variants.setdefault(found["variant"] if found else "", []).append(name)
    return next((found for _, found in sorted(variants.items())), [])


def _indexed(folder: Path, index: Path) -> tuple[Path, ...]:
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except OSError as error:
        raise LoadError(f"can't read {index}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise LoadError(f"{index} is not a valid weight index") from error
    for name in names:
        # A name with a folder in it could point anywhere on the disk.
        if not isinstance(name, str) or Path(name).name != name or name in {"", ".", ".."}:
            raise LoadError(f"{index} names a file outside its folder: {name!r}")
    if any(name.endswith(_PICKLED) for name in names):
        raise _refused(folder, "pickled weights")
    missing = sorted(name for name in names if not (folder / name).is_file())
    if missing or not names:
        raise _missing(folder, missing)
    return tuple(folder / name for name in sorted(names))


def _require_shards(folder: Path, stem: str, count: str) -> None:
    names = [f"{stem}-{number:05}-of-{count}.safetensors" for number in range(1, int(count) + 1)]
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise _missing(folder, missing)


def _missing(folder: Path, names: list[str]) -> LoadError:
    listed = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return LoadError(
        f"{folder} is not complete: {listed or 'every weight file'} is missing; download it again"
    )


def _nothing_to_load(folder: Path) -> LoadError:
    names = [file.name for file in folder.iterdir()]
    if any(name in _ADAPTERS for name in names):
        return CheckpointRefused(
            f"{folder} is a LoRA adapter, not a model: name its base model and pass this folder "
            "as adapter (--adapter)"
        )
    if any(name.endswith(".gguf") for name in names):
        return _refused(folder, "GGUF weights")
    if any(name.endswith(_PICKLED) for name in names):
        return _refused(folder, "pickled weights, which can run code as they are read")
    if any(name.endswith(".incomplete") for name in names):
        return LoadError(f"{folder} is an unfinished download; fetch it again")
    return LoadError(f"{folder} holds no model weights (*.safetensors)")


def refuse_file(file: Path) -> LoadError:
    """The error for a model that is named by one of its files."""
    if file.suffix == ".gguf":
        return _refused(file, "GGUF weights")
    if file.suffix in _PICKLED:
        return _refused(file, "pickled weights, which can run code as they are read")
    return LoadError(f"{file} is a file: name the folder that holds config.json and the weights")


def _refused(where: Path, what: str) -> CheckpointRefused:
    return CheckpointRefused(
        f"{where} has only {what}: use a safetensors version of the model "
        "(many are at https://huggingface.co/mlx-community), or convert it with "
        "`python -m mlx_lm convert`"
        if what.startswith("pickled")
        else f"{where} has only {what}: use the safetensors version of the model that it was "
        "made from (many are at https://huggingface.co/mlx-community)"
    )
