"""`mlxsrv rm`: deletes a downloaded model."""

from __future__ import annotations

import argparse
import sys

from mlxsrv.backends import builtin, hubcache
from mlxsrv.cli import table
from mlxsrv.config.sources import is_hub_id
from mlxsrv.core.errors import ConfigError, ModelNotFound


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="hub id, as `mlxsrv list` shows it")
    parser.add_argument("--yes", "-y", action="store_true", help="do not ask")


def run(args: argparse.Namespace) -> int:
    if args.id in builtin.builtin_models():
        raise ConfigError(f"{args.id} is built in and can't be deleted")
    if not is_hub_id(args.id):
        raise ConfigError(f"{args.id} is not a hub id: only downloaded models can be deleted")
    model_id, revision = hubcache.split_revision(args.id)
    if revision is not None:
        raise ConfigError(f"{args.id}: all revisions are deleted together, so name {model_id}")
    model = next((model for model in hubcache.cached() if model.id == model_id), None)
    if model is None:
        raise ModelNotFound(f"{model_id} is not in {hubcache.cache_folder()}")
    if not args.yes and not _confirmed(f"Delete {model_id} ({table.size(model.size)})? [y/N] "):
        print("kept")
        return 1
    print(f"deleted {model_id}, {table.size(hubcache.remove(model_id))} freed")
    return 0


def _confirmed(question: str) -> bool:
    if not sys.stdin.isatty():
        raise ConfigError("--yes: needed to delete where nobody can be asked")
    try:
        return input(question).strip().lower() in {"y", "yes"}
    except EOFError:
        return False
