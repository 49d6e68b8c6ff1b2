"""`mlxsrv list`: models on this machine."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from mlxsrv.backends import builtin, checkpoint, hubcache
from mlxsrv.cli import table
from mlxsrv.core.errors import CheckpointRefused, LoadError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Takes none."""


def run(args: argparse.Namespace) -> int:
    del args
    rows = [
        (name, table.size(_size(folder)), _kind(folder), str(folder))
        for name, folder in builtin.builtin_models().items()
    ]
    for model in hubcache.cached():
        kind = "incomplete" if model.folder is None else _kind(model.folder)
        rows.append((model.id, table.size(model.size), kind, str(model.root)))
    if rows:
        table.show(("NAME", "SIZE", "KIND", "WHERE"), rows)
    else:
        print("no models yet: mlxsrv pull ORG/NAME")
    return 0


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
