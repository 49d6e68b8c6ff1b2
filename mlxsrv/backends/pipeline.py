"""A diffusers folder: `model_index.json`, which names the parts, and a folder for each.

Format: https://huggingface.co/docs/diffusers/using-diffusers/loading.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlxsrv.backends.headers import Tensor, read_header
from mlxsrv.backends.jsonfile import read_object, read_optional
from mlxsrv.backends.weights import weight_files
from mlxsrv.core.errors import CheckpointRefused, LoadError

INDEX = "model_index.json"
WITHOUT_WEIGHTS = ("Tokenizer", "TokenizerFast", "Scheduler", "Processor", "FeatureExtractor")
"""What the classes of other parts end in."""

_NO_PICTURES = {
    "videos": ("Video", "Wan", "LTX", "Mochi", "AnimateDiff", "Allegro", "Latte", "SkyReels"),
    "sound": ("Audio", "Music", "ACEStep"),
}


@dataclass(frozen=True, slots=True)
class Part:
    """A part that holds weights: what its configuration says, and its tensors."""

    name: str
    folder: Path
    config: Mapping[str, Any]
    tensors: tuple[Tensor, ...]

    @property
    def is_encoder(self) -> bool:
        """Whether it reads prompts."""
        return self.name.startswith("text_encoder")


@dataclass(frozen=True, slots=True)
class Pipeline:
    """What a folder holds; `name` is the class that runs it."""

    name: str
    parts: tuple[Part, ...]

    @property
    def tensors(self) -> list[Tensor]:
        return [tensor for part in self.parts for tensor in part.tensors]


def read_pipeline(folder: Path) -> Pipeline:
    """Raises CheckpointRefused for what makes no pictures or brings its own code, LoadError for
    what is missing or damaged."""
    index = read_object(folder / INDEX)
    name = index.get("_class_name")
    if not isinstance(name, str):
        # A list names a file of the folder beside the class in it.
        raise own_code(folder) if name else LoadError(f"{folder / INDEX} names no pipeline")
    for made, words in _NO_PICTURES.items():
        if any(word in name for word in words):
            raise CheckpointRefused(f"{folder} is a {name}, which makes {made}, not pictures")
    listed = _listed(folder, index)
    return Pipeline(name, tuple(_part(folder / part) for part in listed))


def own_code(folder: Path) -> CheckpointRefused:
    return CheckpointRefused(
        f"{folder} brings its own Python code, which is never run (no trust_remote_code): use a "
        "version of the model whose pipeline is built into diffusers"
    )


def _listed(folder: Path, index: Mapping[str, Any]) -> list[str]:
    """The parts that hold weights, all of which are there."""
    classes = {
        part: entry
        for part, entry in index.items()
        if isinstance(entry, list) and len(entry) == 2 and all(isinstance(n, str) for n in entry)
    }
    for part, (library, _) in classes.items():
        if Path(part).name != part or part in {"", ".", ".."}:
            raise LoadError(f"{folder / INDEX} names a part outside its folder: {part!r}")
        if any((place / f"{library}.py").exists() for place in (folder, folder / part)):
            raise own_code(folder)
    missing = [part for part in classes if not (folder / part).is_dir()]
    if missing:
        raise LoadError(
            f"{folder} is not complete: {', '.join(missing)} is missing; download it again"
        )
    heavy = [part for part, (_, kind) in classes.items() if not kind.endswith(WITHOUT_WEIGHTS)]
    return heavy or sorted({file.parent.name for file in folder.glob("*/*.safetensors")})


def _part(folder: Path) -> Part:
    files = weight_files(folder)
    tensors = tuple(tensor for file in files for tensor in read_header(file))
    return Part(folder.name, folder, read_optional(folder / "config.json"), tensors)
