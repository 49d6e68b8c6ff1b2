"""A server for a command that needs a model of some kind, and not any one of them."""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack

from mlxsrv.backends import builtin
from mlxsrv.cli import ps
from mlxsrv.cli import run as conversations
from mlxsrv.cli.client import Client, ServerAbsent
from mlxsrv.core.errors import ModelNotFound
from mlxsrv.core.kinds import Kind


def client_that(
    does: str, args: argparse.Namespace, stack: ExitStack, kind: Kind, fallback: str
) -> tuple[Client, str]:
    """The running server if it has the model that `args` name, or any of this kind; else one of
    our own until `stack` ends, with that model or the built-in one called `fallback`.

    `does` says what the model is for. Raises ModelNotFound, ServerAbsent, LoadError.
    """
    if args.model is not None:
        client, facts = conversations.client_with(args, stack, args.model)
        return client, facts["id"]
    client = ps.client_for(args)
    try:
        models = client.get("/v1/models")["data"]
    except ServerAbsent:
        if args.url is not None:
            raise
        models = []
    found = next((model["id"] for model in models if model.get("type") == kind), None)
    if found is not None:
        return client, found
    if args.url is not None or fallback not in builtin.builtin_models():
        raise ModelNotFound(f"{client.url} serves no model that {does}: name one by --model")
    print(f"mlxsrv: no running server {does}: using {fallback}", file=sys.stderr)
    client, facts = conversations.client_with(args, stack, fallback)
    return client, facts["id"]
