"""`mlxsrv lora`: the running server's adapters."""

from __future__ import annotations

import argparse

from mlxsrv.cli import ps, table
from mlxsrv.cli.load import whole_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    load = actions.add_parser("load", help="serve an adapter beside its base model")
    load.add_argument("base", metavar="BASE", help="name of a served model")
    load.add_argument("name", metavar="NAME", help="name to serve the adapter by")
    load.add_argument("path", metavar="PATH", help="folder of the adapter, or its safetensors file")
    load.add_argument("--scale", type=float, help="strength (default: 1, as published)")
    unload = actions.add_parser("unload", help="take an adapter out of the server")
    unload.add_argument("name", metavar="NAME")
    shown = actions.add_parser("list", help="the adapters that are served")
    for action, what in ((load, _load), (unload, _unload), (shown, _list)):
        ps.add_server_flags(action)
        action.set_defaults(action=what)


def run(args: argparse.Namespace) -> int:
    code: int = args.action(args)
    return code


def _load(args: argparse.Namespace) -> int:
    body = {"model": args.base, "lora_name": args.name, "lora_path": whole_path(args.path)}
    body |= {} if args.scale is None else {"scale": args.scale}
    adapter = ps.client_for(args).post("/v1/lora/load", body)
    size = table.size(adapter["memory_bytes"])
    print(f"{adapter['id']}: rank {adapter['rank']}, {size}, beside {adapter['model']}")
    return 0


def _unload(args: argparse.Namespace) -> int:
    adapter = ps.client_for(args).post("/v1/lora/unload", {"lora_name": args.name})
    print(f"unloaded {adapter['id']}, {table.size(adapter['memory_bytes'])} freed")
    return 0


def _list(args: argparse.Namespace) -> int:
    adapters = ps.client_for(args).get("/v1/lora")["data"]
    rows = [
        (one["id"], one["model"], str(one["rank"]), f"{one['scale']:g}", one["path"])
        for one in adapters
    ]
    if rows:
        table.show(("NAME", "BASE", "RANK", "SCALE", "PATH"), rows)
    else:
        print("no adapters: mlxsrv lora load BASE NAME PATH")
    return 0
