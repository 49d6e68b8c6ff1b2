"""The recommended models that come with the product: one TOML file each."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import ConfigDict, Field, PositiveInt, ValidationError

from mlxsrv.backends import builtin
from mlxsrv.config.settings import Section
from mlxsrv.config.sources import is_hub_id, line_of
from mlxsrv.core.errors import CheckpointRefused, ConfigError
from mlxsrv.core.kinds import Kind
from mlxsrv.core.manifest import MAIN, Manifest

_NAME = re.compile(r"^[a-z0-9][a-z0-9.-]*$")
_TEXT_READERS = frozenset({Kind.CHAT, Kind.COMPLETION, Kind.VISION, Kind.EMBEDDING, Kind.RERANK})

Text = Annotated[str, Field(min_length=1, max_length=80)]
Revision = Annotated[str, Field(pattern=rf"^({MAIN}|[0-9a-f]{{40}})$")]
Backends = Annotated[tuple[Literal["mlx", "torch"], ...], Field(min_length=1, strict=False)]


class _File(Section):
    """What a file says; `Manifest` says what it means."""

    model_config = ConfigDict(strict=True)

    id: Text
    revision: Revision
    source: Text | None = None
    source_revision: Revision = MAIN
    kind: Annotated[Kind, Field(strict=False)]
    bits: Literal[4, 8] | None = None
    parameters: PositiveInt
    parameters_16bit: Annotated[int, Field(ge=0)] = 0
    memory_4bit: PositiveInt
    memory_8bit: PositiveInt
    context_length: PositiveInt | None = None
    dimensions: PositiveInt | None = None
    licence: Text
    gated: bool
    purpose: Annotated[Text, Field(alias="for")]
    backends: Backends


def manifests() -> list[Manifest]:
    """Every recommended model, by kind and then by size. Raises ConfigError."""
    kinds = list(Kind)
    found = map(read, _files())
    return sorted(found, key=lambda found: (kinds.index(found.kind), found.parameters))


def find(name: str) -> Manifest | None:
    """The recommended model of that short name. Raises ConfigError."""
    if not _NAME.match(name):
        return None
    files = (root / f"{name}.toml" for root in builtin.roots())
    return next((read(file) for file in files if file.is_file()), None)


def resolve(name: str, backend: str) -> tuple[str, str] | None:
    """Hub id and revision of what `backend` reads under that short name, if there is one.

    Raises CheckpointRefused where the model runs on another backend only.
    """
    manifest = find(name)
    return None if manifest is None else _on(manifest, backend).repository(backend)


def hub_id(name: str, backend: str) -> str | None:
    """`resolve` as `org/name` or `org/name@revision`."""
    manifest = find(name)
    return None if manifest is None else _on(manifest, backend).hub_id(backend)


def _on(manifest: Manifest, backend: str) -> Manifest:
    if backend not in manifest.backends:
        raise CheckpointRefused(
            f"{manifest.name} runs on the {manifest.backends[0]} backend only, not on {backend}"
        )
    return manifest


def _files() -> list[Path]:
    found = (sorted(root.glob("*.toml")) for root in builtin.roots())
    return next((files for files in found if files), [])


def read(file: Path) -> Manifest:
    """One manifest, named after its file. Raises ConfigError that names file, line and key."""
    text = file.read_text(encoding="utf-8")
    try:
        parsed = _File.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file}: not valid TOML: {error}") from error
    except ValidationError as error:
        problems = [(str(e["loc"][0]), _reason(e)) for e in error.errors()]
        raise _bad(file, text, problems) from None
    manifest = Manifest(name=file.stem, **parsed.model_dump())
    problems = list(_impossible(manifest))
    if problems:
        raise _bad(file, text, problems)
    return manifest


def _reason(error: Any) -> str:
    known = {"extra_forbidden": "no such key", "missing": "is required"}
    return known.get(error["type"]) or cast(str, error["msg"])


def _bad(file: Path, text: str, problems: list[tuple[str, str]]) -> ConfigError:
    lines = (f"{file}:{line_of(text, (key,))}: {key}: {reason}" for key, reason in problems)
    return ConfigError("\n".join(lines))


def _impossible(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """What is well-formed but can't be."""
    if not _NAME.match(manifest.name):
        yield "id", f"a file can't be named {manifest.name}: small letters, digits, . and -"
    for key, value in (("id", manifest.id), ("source", manifest.source)):
        if value is not None and not is_hub_id(value):
            yield key, f"not a hub id: {value}"
    if manifest.bits is not None and "torch" in manifest.backends and manifest.source is None:
        yield "source", "is required, since torch can't read what is quantised for MLX"
    if manifest.memory_8bit < manifest.memory_4bit:
        yield "memory_8bit", "is less than memory_4bit"
    if manifest.parameters_16bit > manifest.parameters:
        yield "parameters_16bit", "is more than parameters"
    if manifest.kind in _TEXT_READERS and manifest.context_length is None:
        yield "context_length", f"is required of {manifest.kind}"
    if manifest.kind is Kind.EMBEDDING and manifest.dimensions is None:
        yield "dimensions", f"is required of {manifest.kind}"
