"""`mlxsrv run`: one question to a model, or a conversation with it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Generator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from mlxsrv.backends import builtin, hub
from mlxsrv.cli import child, ps
from mlxsrv.cli.bar import download_bar
from mlxsrv.cli.client import Client, ServerAbsent, ServerRefused
from mlxsrv.cli.conversation import Conversation
from mlxsrv.cli.serve import served_name
from mlxsrv.core.errors import MlxsrvError, ModelNotFound

LEAVE = frozenset({"/bye", "/exit", "/quit"})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="folder, hub id, or built-in model")
    parser.add_argument("prompt", metavar="PROMPT", nargs="?", help="left out: a conversation")
    parser.add_argument("--system", help="system prompt")
    parser.add_argument("--temperature", type=float, help="0 (always the same) to 2")
    parser.add_argument("--max-tokens", type=int, help="longest answer, in tokens")
    parser.add_argument("--backend", help="auto, mlx or torch, where a server has to be started")
    ps.add_server_flags(parser)


def run(args: argparse.Namespace) -> int:
    prompt = args.prompt
    if prompt is None and not sys.stdin.isatty():
        prompt = sys.stdin.read()
    with ExitStack() as stack:
        conversation = _open(args, stack)
        if prompt is None:
            _talk(conversation)
        else:
            _print_answer(conversation.ask(prompt))
    return 0


def client_with(
    args: argparse.Namespace, stack: ExitStack, wanted: str
) -> tuple[Client, dict[str, Any]]:
    """The running server if it has the model, else one of our own until `stack` ends, and what
    it says of the model."""
    folder = builtin.builtin_folder(wanted)
    name = folder.name if folder is not None else served_name(wanted)
    client = ps.client_for(args)
    model = _model_at(client, name) if args.url is None else _required_model(client, name)
    if model is None:
        path = str(folder) if folder is not None else _on_this_machine(wanted)
        flags = ["--name", name]
        flags += ["--backend", args.backend] if args.backend else []
        client = stack.enter_context(child.server(path, flags, client.api_key))
        model = _required_model(client, name)
    return client, model


def _open(args: argparse.Namespace, stack: ExitStack) -> Conversation:
    client, model = client_with(args, stack, args.model)
    options = {"temperature": args.temperature, "max_tokens": args.max_tokens}
    return Conversation(
        client,
        model["id"],
        has_template=model.get("type") != "completion",
        system=args.system,
        options={key: value for key, value in options.items() if value is not None},
    )


def _model_at(client: Client, name: str) -> dict[str, Any] | None:
    """What the server says of the model; None where it has none of that name or is not there."""
    try:
        return _required_model(client, name)
    except (ServerAbsent, ServerRefused, ModelNotFound):
        return None


def _required_model(client: Client, name: str) -> dict[str, Any]:
    models = client.get("/v1/models")["data"]
    for model in models:
        if model["id"] == name:
            return dict(model)
    served = ", ".join(model["id"] for model in models) or "nothing"
    raise ModelNotFound(f"{client.url} does not serve {name}, but {served}")


def _on_this_machine(model: str) -> str:
    if Path(model).expanduser().exists():
        return model
    with download_bar() as report:
        return str(hub.locate(model, download=True, progress=report))


def _talk(conversation: Conversation) -> None:
    """Reads lines until Ctrl-D or /bye. Ctrl-C ends the answer, not the conversation."""
    print(f"Talking to {conversation.model}. Ctrl-C stops an answer, Ctrl-D or /bye leaves.")
    _enable_line_editing()
    while True:
        try:
            line = input(">>> ").strip()
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print()
            continue
        if line in LEAVE:
            return
        if line:
            _answer_line(conversation, line)


def _answer_line(conversation: Conversation, line: str) -> None:
    try:
        _print_answer(conversation.ask(line))
    except KeyboardInterrupt:
        print()
    except MlxsrvError as error:
        print(f"mlxsrv: error: {error.message}", file=sys.stderr)


def _print_answer(pieces: Generator[str, None, None]) -> None:
    # Closing ends the request, so that the server does not go on for nobody.
    with closing(pieces):
        for piece in pieces:
            print(piece, end="", flush=True)
    print()


def _enable_line_editing() -> None:
    try:
        import readline  # noqa: F401
    except ImportError:
        return
