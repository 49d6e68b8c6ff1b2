"""`mlxsrv load`: loads a model into the running server."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mlxsrv.cli import ps, table
from mlxsrv.cli.bar import bytes_bar
from mlxsrv.cli.client import Client
from mlxsrv.core.kinds import Kind


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", metavar="MODEL", help="folder, hub id, recommended model, or served name"
    )
    parser.add_argument("--name", help="name to serve it by (default: from its folder or id)")
    parser.add_argument("--kind", choices=list(Kind), help="(default: read from the files)")
    parser.add_argument("--ttl", type=float, metavar="SECONDS", help="unload after so much idling")
    parser.add_argument(
        "--pin",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="never unload under memory pressure",
    )
    ps.add_server_flags(parser)


def run(args: argparse.Namespace) -> int:
    client = ps.client_for(args)
    options = {key: getattr(args, key) for key in ("name", "kind", "ttl", "pin")}
    body = {key: value for key, value in options.items() if value is not None}
    model = _load(client, {"model": _for_server(client, args.model), **body})
    size = table.size(model["memory_bytes"] or 0)
    print(f"{model['id']}: {', '.join([*ps.known(model, 'type', 'backend'), size])}")
    return 0


def _load(client: Client, body: dict[str, Any]) -> dict[str, Any]:
    """Shows how far it is; gives the model as the last event has it."""
    event: dict[str, Any] = {}
    with bytes_bar() as show:
        for event in client.stream("/v1/models/load", body):
            if show is not None and "stage" in event:
                show(event["stage"], event["done"], event["total"])
    return event


def _for_server(client: Client, model: str) -> str:
    """A folder of ours by its whole path, unless the server knows a model of that name."""
    folder = whole_path(model)
    if folder == model:
        return model
    served = client.get("/v1/models")["data"]
    known = any(model in (one["id"], *one.get("aliases", ())) for one in served)
    return model if known else folder


def whole_path(text: str) -> str:
    """Where `text` names something on this machine, its absolute path: the server was started
    in another folder."""
    path = Path(text).expanduser()
    return str(path.absolute()) if path.exists() else text
