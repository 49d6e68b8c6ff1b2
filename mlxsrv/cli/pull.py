"""`mlxsrv pull`: downloads a model into the Hugging Face cache."""

from __future__ import annotations

import argparse

from mlxsrv.backends import checkpoint, hub
from mlxsrv.cli import table
from mlxsrv.cli.bar import download_bar
from mlxsrv.config.sources import is_hub_id
from mlxsrv.core.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="hub id: org/name or org/name@revision")


def run(args: argparse.Namespace) -> int:
    if not is_hub_id(args.id):
        raise ConfigError(f"{args.id} is not a hub id, which has the form org/name[@revision]")
    with download_bar() as report:
        folder = hub.pull(args.id, report)
    found = checkpoint.read(folder)
    print(f"{args.id}: {found.kind}, {table.size(found.weight_bytes)}, in {folder}")
    return 0
