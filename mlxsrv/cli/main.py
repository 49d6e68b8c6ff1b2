"""Picks the command, and turns every expected failure into one line and an exit code."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Protocol, cast

from mlxsrv import __version__, supervisor
from mlxsrv.core.errors import MlxsrvError

COMMANDS = {
    "serve": "serve models over HTTP (no MODEL: the built-in demo models)",
    "run": "ask a model one question, or talk to it",
    "pull": "download a model from the Hugging Face hub",
    "list": "models on this machine, or recommended ones",
    "rm": "delete a downloaded model",
    "ps": "models of the running server, and its memory",
    "load": "load a model into the running server",
    "unload": "take a model out of the running server",
    "lora": "load, unload and list the running server's adapters",
    "transcribe": "write down what is said in sound and video files",
    "say": "speak a text, into a file or aloud",
    "imagine": "draw what a text says, into a file or the terminal",
    "bench": "measure servers side by side, and the libraries alone",
    "doctor": "what mlxsrv finds on this machine, and what is missing",
}
INTERRUPTED = 130
FAILED = 1


class Command(Protocol):
    """A module of this package that carries out one command."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, args: argparse.Namespace) -> int: ...


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and gives the exit code: 1 failed, 2 wrong usage, 130 interrupted."""
    try:
        if argv is None and supervisor.wanted(sys.argv[1:], os.environ):
            return supervisor.supervise([sys.executable, *sys.orig_argv[1:]])
        args = _parse(list(sys.argv[1:] if argv is None else argv))
        code: int = args.command.run(args)
        sys.stdout.flush()
        return code
    except MlxsrvError as error:
        for line in error.message.splitlines():
            print(f"mlxsrv: error: {line}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone (`mlxsrv list | head`); Python would complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _parse(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="mlxsrv", description="Local models behind one API.")
    parser.add_argument("--version", action="version", version=f"mlxsrv {__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    # Only the chosen command is imported: --help has to be there at once.
    chosen = next((word for word in words if not word.startswith("-")), None)
    for name, summary in COMMANDS.items():
        sub = subparsers.add_parser(name, help=summary, description=summary)
        if name == chosen:
            command = cast(Command, import_module(f"mlxsrv.cli.{name}"))
            command.add_arguments(sub)
            sub.set_defaults(command=command)
    return parser.parse_args(words)
