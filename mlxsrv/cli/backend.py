"""Which backend a command is about, where nothing is running yet."""

from __future__ import annotations

import argparse

from mlxsrv.backends import select
from mlxsrv.backends.select import Backend
from mlxsrv.cli import flags
from mlxsrv.config import sources


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backend", help="auto, mlx or torch (default: from the settings)")
    flags.add_config_flag(parser)


def chosen(args: argparse.Namespace) -> Backend:
    """The backend that the flag, or else the settings, make `serve` take. Raises ConfigError."""
    if args.backend is not None:
        return select.choose(args.backend).name
    # Only the backend matters here, not whether this server may be started.
    settings = sources.load(flags.config_file(args), flags={"allow_unauthenticated": True})
    return select.choose(settings.engine.backend).name
