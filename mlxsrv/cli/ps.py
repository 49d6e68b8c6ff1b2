"""`mlxsrv ps`: what the running server serves."""

from __future__ import annotations

import argparse
from typing import Any

from mlxsrv.cli import flags, table
from mlxsrv.cli.client import Client, url_of
from mlxsrv.config import sources

NOT_READY = frozenset({503})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_server_flags(parser)


def add_server_flags(parser: argparse.ArgumentParser) -> None:
    """Where the server is, and the key it wants."""
    parser.add_argument("--url", help="the server's URL (default: from the settings)")
    parser.add_argument("--api-key", help="the server's key (default: from the settings)")
    flags.add_config_flag(parser)


def client_for(args: argparse.Namespace) -> Client:
    """A client of the server that the flags, or else the settings, name. Raises ConfigError."""
    # Only the address and the key matter here, not whether this server may be started.
    settings = sources.load(flags.config_file(args), flags={"allow_unauthenticated": True})
    key = settings.api.api_key
    found = key.get_secret_value() if key is not None else None
    return Client(args.url or url_of(settings), args.api_key or found)


def run(args: argparse.Namespace) -> int:
    client = client_for(args)
    health = client.get("/health", accept=NOT_READY)
    models = client.get("/v1/models")["data"]
    facts = [str(health[key]) for key in ("status", "version", "backend") if health.get(key)]
    print(f"{client.url}: {', '.join(facts)}")
    table.show(
        ("NAME", "KIND", "STATE", "BACKEND", "MEMORY", "CONTEXT"), [_row(model) for model in models]
    )
    return 0


def _row(model: dict[str, Any]) -> tuple[str, ...]:
    memory = model.get("memory_bytes")
    return (
        str(model["id"]),
        *(str(model.get(key) or "-") for key in ("type", "state", "backend")),
        table.size(memory) if memory else "-",
        str(model.get("context_length") or "-"),
    )
