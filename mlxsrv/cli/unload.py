"""`mlxsrv unload`: takes a model out of the running server."""

from __future__ import annotations

import argparse

from mlxsrv.cli import ps, table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="name, as `mlxsrv ps` shows it")
    parser.add_argument(
        "--timeout",
        type=float,
        metavar="SECONDS",
        help="end its requests after so long (default: wait for them)",
    )
    ps.add_server_flags(parser)


def run(args: argparse.Namespace) -> int:
    body = {"model": args.model} | ({} if args.timeout is None else {"timeout": args.timeout})
    gone = ps.client_for(args).post("/v1/models/unload", body)
    freed = gone["memory_bytes"]
    print(f"unloaded {gone['id']}" + (f", {table.size(freed)} freed" if freed else ""))
    return 0
