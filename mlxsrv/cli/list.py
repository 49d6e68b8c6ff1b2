"""`mlxsrv list`: models on this machine, or those that are recommended."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mlxsrv.backends import builtin, checkpoint, hubcache
from mlxsrv.cli import backend, recommended, table
from mlxsrv.core.errors import CheckpointRefused, LoadError
from mlxsrv.core.kinds import Kind


@dataclass(frozen=True, slots=True)
class _Found:
    """A model on this machine, `size` in bytes; `kind` may also say why it can't be served."""

    name: str
    size: int
    kind: str
    where: Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--available", action="store_true", help="recommended models, whether here or not"
    )
    parser.add_argument("--kind", choices=[kind.value for kind in Kind], help="only this kind")
    parser.add_argument("--json", action="store_true", help="print JSON")
    backend.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    if args.available:
        return recommended.show(backend.chosen(args), args.kind, as_json=args.json)
    models = [model for model in _models() if args.kind in (None, model.kind)]
    if args.json:
        print(json.dumps([_document(model) for model in models], indent=2))
    elif models:
        table.show(("NAME", "SIZE", "KIND", "WHERE"), [_row(model) for model in models])
    else:
        print(f"no {f'{args.kind} ' if args.kind else ''}models yet: mlxsrv pull NAME")
    return 0


def _models() -> Iterator[_Found]:
    for name, folder in builtin.builtin_models().items():
        yield _Found(name, _size(folder), _kind(folder), folder)
    for model in hubcache.cached():
        kind = "incomplete" if model.folder is None else _kind(model.folder)
        yield _Found(model.id, model.size, kind, model.root)


def _row(model: _Found) -> tuple[str, ...]:
    return model.name, table.size(model.size), model.kind, str(model.where)


def _document(model: _Found) -> dict[str, object]:
    return {
        "name": model.name,
        "bytes": model.size,
        "kind": model.kind,
        "path": str(model.where),
    }


def _kind(folder: Path) -> str:
    try:
        return checkpoint.read(folder).kind
    except CheckpointRefused:
        return "not servable"
    except LoadError:
        return "damaged"


def _size(folder: Path) -> int:
    return sum(
        (Path(where) / name).stat().st_size for where, _, names in os.walk(folder) for name in names
    )
