"""`mlxsrv ps`: what the running server serves, and what it holds."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from mlxsrv.cli import flags, table
from mlxsrv.cli.client import Client, url_of
from mlxsrv.config import sources

NOT_READY = frozenset({503})
HEAD = ("NAME", "KIND", "STATE", "BACKEND", "MEMORY", "CONTEXT", "REQUESTS", "IDLE")


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
    found = client.get("/v1/models")
    print(f"{client.url}: {', '.join(known(health, 'status', 'version', 'backend'))}")
    table.show(HEAD, _rows(found["data"]))
    if "memory" in found:
        print(_memory(found["memory"]))
    return 0


def known(facts: Mapping[str, Any], *keys: str) -> list[str]:
    """What is said of these keys, without those of which nothing is."""
    return [str(facts[key]) for key in keys if facts.get(key)]


def _rows(models: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Each model, with its adapters under it."""
    names = {model["id"] for model in models}
    rows = []
    for model in models:
        if model.get("parent") not in names:
            rows.append(_row(model))
            adapters = (other for other in models if other.get("parent") == model["id"])
            rows += [_row(adapter, "  ") for adapter in adapters]
    return rows


def _row(model: Mapping[str, Any], indent: str = "") -> tuple[str, ...]:
    memory = model.get("memory_bytes")
    kind = "lora" if model.get("parent") else model.get("type")
    return (
        indent + str(model["id"]),
        str(kind or "-"),
        *(str(model.get(key) or "-") for key in ("state", "backend")),
        table.size(memory) if memory else "-",
        *(str(model.get(key) or "-") for key in ("context_length", "requests")),
        _idle(model),
    )


def _idle(model: Mapping[str, Any]) -> str:
    """How long it has been idle, of how long it may be."""
    idle, ttl = model.get("idle_seconds"), model.get("ttl")
    parts = [] if idle is None else [table.duration(idle)]
    if ttl is not None:
        parts.append(f"of {table.duration(ttl)}")
    if model.get("pin"):
        parts.append("pinned")
    return " ".join(parts) or "-"


def _memory(memory: Mapping[str, Any]) -> str:
    held = {use.replace("_", " "): size for use, size in memory["held"].items() if size}
    parts = ", ".join(f"{use} {table.size(size)}" for use, size in held.items())
    budget = memory.get("budget_bytes")
    bound = f" of {table.size(budget)}" if budget else ""
    return f"memory: {table.size(sum(held.values()))}{bound}" + (f" ({parts})" if parts else "")
