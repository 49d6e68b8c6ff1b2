"""`mlxsrv imagine`: a picture of what a text says, in a file or in the terminal."""

from __future__ import annotations

import argparse
import base64
import os
import re
import secrets
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

from mlxsrv.cli import ps
from mlxsrv.cli.bar import steps_bar
from mlxsrv.cli.client import Client
from mlxsrv.cli.finding import client_that
from mlxsrv.cli.pictures import Canvas, terminal_of
from mlxsrv.core.errors import InvalidRequest
from mlxsrv.core.kinds import Kind

FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}
STANDARD_OUTPUT = Path("-")
TOY = "demo-image"

PREVIEWS = 3
NAME_CHARACTERS = 40
"""Of a prompt that a file is named after."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prompt", metavar="PROMPT", nargs="?", help="left out: standard input")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        help="the file to make: .png, .jpg or .webp (-: standard output; default: show it, or "
        "name a file after the prompt)",
    )
    parser.add_argument("-n", "--count", type=int, help="how many pictures: FILE-1, FILE-2 …")
    parser.add_argument("--model", help="folder, hub id or served name (default: the server's)")
    parser.add_argument("--size", help="WIDTHxHEIGHT, multiples of 16")
    parser.add_argument("--steps", type=int, help="more take longer, and may look better")
    parser.add_argument("--seed", type=int, help="makes the picture repeatable")
    parser.add_argument("--guidance", type=float, help="how closely to follow the prompt")
    parser.add_argument("--negative", help="what not to show, for models that heed it")
    parser.add_argument("--image", type=Path, action="append", help="a picture to begin with")
    parser.add_argument("--mask", type=Path, help="which part of it to make anew: white, or clear")
    parser.add_argument("--strength", type=float, help="how much of it may change, 0 to 1")
    parser.add_argument("--backend", help="auto, mlx or torch, where a server has to be started")
    ps.add_server_flags(parser)


def run(args: argparse.Namespace) -> int:
    _check(args)
    body = _body(args)
    canvas = _canvas(args)
    with ExitStack() as stack:
        client, model = client_that("draws", args, stack, Kind.IMAGE, TOY)
        if canvas is not None:
            body["partial_images"] = PREVIEWS
        for picture in _drawn(_events(client, {"model": model, **body}, args), canvas):
            _keep(picture, body["prompt"], args, canvas)
    return 0


def _check(args: argparse.Namespace) -> None:
    """What can be known before anything is drawn. Raises InvalidRequest."""
    files = [*(args.image or ()), *([args.mask] if args.mask is not None else ())]
    for file in files:
        if not file.is_file():
            raise InvalidRequest(f"no such file: {file}")
        if not os.access(file, os.R_OK):
            raise InvalidRequest(f"{file}: can't be read")
    if not args.image and (args.mask is not None or args.strength is not None):
        raise InvalidRequest("--mask and --strength go with a picture to begin with: --image")
    if args.output == STANDARD_OUTPUT and (args.count or 1) > 1:
        raise InvalidRequest("several pictures do not fit into standard output: name a file")
    if args.output not in (None, STANDARD_OUTPUT) and not args.output.parent.is_dir():
        raise InvalidRequest(f"{args.output}: there is no such folder")


def _body(args: argparse.Namespace) -> dict[str, Any]:
    given = {
        "n": args.count,
        "size": args.size,
        "steps": args.steps,
        "seed": args.seed,
        "guidance": args.guidance,
        "negative_prompt": args.negative,
        "strength": args.strength,
    }
    return {
        "prompt": _text(args.prompt),
        "output_format": _format(args.output),
        "progress": True,
        **{name: value for name, value in given.items() if value is not None},
    }


def _text(given: str | None) -> str:
    if given is not None:
        return given
    if sys.stdin.isatty():
        raise InvalidRequest("draw what: mlxsrv imagine PROMPT, or a text on standard input")
    return sys.stdin.read().strip()


def _format(target: Path | None) -> str:
    if target is None or target == STANDARD_OUTPUT:
        return "png"
    form = FORMATS.get(target.suffix.lower())
    if form is None:
        raise InvalidRequest(f"{target}: its name should end in one of {', '.join(FORMATS)}")
    return form


def _canvas(args: argparse.Namespace) -> Canvas | None:
    terminal = terminal_of(os.environ)
    if terminal is None or not sys.stdout.isatty() or args.output == STANDARD_OUTPUT:
        return None
    return Canvas(terminal, sys.stdout)


def _events(
    client: Client, body: dict[str, Any], args: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    if not args.image:
        return client.stream("/v1/images/generations", body)
    fields = [(name, _written(value)) for name, value in body.items()]
    files = [("image[]", file) for file in args.image]
    if args.mask is not None:
        files.append(("mask", args.mask))
    return client.upload("/v1/images/edits", fields, files)


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(frozen=True, slots=True)
class _Picture:
    index: int
    seed: int
    content: bytes


def _drawn(events: Iterator[dict[str, Any]], canvas: Canvas | None) -> Iterator[_Picture]:
    """The finished pictures; on the way it shows how far they have come."""
    with steps_bar() as bar:
        for event in events:
            index = event["index"]
            match event["type"].rpartition(".")[2]:
                case "progress" if bar is not None:
                    bar(f"picture {index + 1}", event["step"], event["steps"])
                case "partial_image" if canvas is not None:
                    canvas.show(index, base64.b64decode(event["b64_json"]))
                case "completed":
                    content = base64.b64decode(event["b64_json"])
                    if canvas is not None:
                        canvas.show(index, content)
                    yield _Picture(index, event["seed"], content)


def _keep(picture: _Picture, prompt: str, args: argparse.Namespace, canvas: Canvas | None) -> None:
    if args.output == STANDARD_OUTPUT:
        sys.stdout.buffer.write(picture.content)
        sys.stdout.buffer.flush()
        return
    if args.output is None and canvas is not None:
        print(f"seed {picture.seed}")
        return
    target = args.output
    if target is None:
        target = _named_after(prompt, picture.seed)
    elif (args.count or 1) > 1:
        target = target.with_stem(f"{target.stem}-{picture.index + 1}")
    try:
        _write(picture.content, target)
    except OSError as error:
        raise InvalidRequest(f"{target}: {error.strerror}") from error
    print(target)


def _named_after(prompt: str, seed: int) -> Path:
    """A file that is not there yet."""
    words = re.sub(r"\W+", "-", prompt.lower())[:NAME_CHARACTERS].strip("-") or "picture"
    names = chain([""], (f"-{number}" for number in count(2)))
    files = (Path(f"{words}-{seed}{name}.png") for name in names)
    return next(file for file in files if not file.exists())


def _write(content: bytes, target: Path) -> None:
    """All of it or nothing: an old file stays until the new one is complete."""
    if target.exists() and not target.is_file():
        target.write_bytes(content)  # a device or a pipe
        return
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        part.write_bytes(content)
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
