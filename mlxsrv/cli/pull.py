"""`mlxsrv pull`: downloads a model into the Hugging Face cache."""

from __future__ import annotations

import argparse

from mlxsrv.backends import checkpoint, hub, manifests
from mlxsrv.cli import backend, table
from mlxsrv.cli.bar import download_bar
from mlxsrv.config.sources import is_hub_id
from mlxsrv.core.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "id",
        metavar="ID",
        help="hub id (org/name or org/name@revision), or a name of `mlxsrv list --available`",
    )
    backend.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    model_id = args.id if is_hub_id(args.id) else _recommended(args)
    with download_bar() as report:
        folder = hub.pull(model_id, report)
    found = checkpoint.read(folder)
    print(f"{model_id}: {found.kind}, {table.size(found.weight_bytes)}, in {folder}")
    return 0


def _recommended(args: argparse.Namespace) -> str:
    found = manifests.hub_id(args.id, backend.chosen(args))
    if found is None:
        raise ConfigError(
            f"{args.id} is not a hub id, which has the form org/name[@revision], "
            "nor one of `mlxsrv list --available`"
        )
    return found
