"""`mlxsrv say`: a text as speech, in a file or aloud."""

from __future__ import annotations

import argparse
import base64
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mlxsrv.cli import ps
from mlxsrv.cli.finding import client_that
from mlxsrv.core.errors import InvalidRequest, MlxsrvError
from mlxsrv.core.kinds import Kind

FORMATS = ("wav", "mp3", "opus", "aac", "flac", "pcm")
SUFFIXES = {".ogg": "opus"}
PLAYERS = ("afplay", "paplay", "aplay")
"""Programs that play a file: of macOS, PulseAudio, ALSA."""

HEADER_BYTES = 44
"""Of a WAV file as the server writes it."""

STANDARD_OUTPUT = Path("-")
BUILT_IN = "espeak"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("text", metavar="TEXT", nargs="?", help="left out: standard input")
    parser.add_argument(
        "-o", "--output", type=Path, help="the file to make (-: standard output; default: play it)"
    )
    parser.add_argument("--format", choices=FORMATS, help="default: what the file's name says")
    parser.add_argument("--model", help="folder, hub id or served name (default: the server's)")
    parser.add_argument("--voice", help="one of the model's, or an OpenAI name such as nova")
    parser.add_argument("--voice-file", type=Path, help="recording whose voice is to be cloned")
    parser.add_argument("--speed", type=float, help="0.25 to 4 times as fast")
    parser.add_argument("--seed", type=int, help="makes the speech repeatable")
    parser.add_argument("--backend", help="auto, mlx or torch, where a server has to be started")
    ps.add_server_flags(parser)


def run(args: argparse.Namespace) -> int:
    body = _body(args)
    player = None if args.output is not None else _player()
    with ExitStack() as stack:
        client, model = client_that("speaks", args, stack, Kind.TTS, BUILT_IN)
        blocks = client.download("/v1/audio/speech", {"model": model, **body})
        if player is None:
            _write(blocks, args.output, body["response_format"])
        else:
            _play(blocks, player)
    return 0


def _body(args: argparse.Namespace) -> dict[str, Any]:
    given = {"voice": args.voice, "speed": args.speed, "seed": args.seed}
    body = {name: value for name, value in given.items() if value is not None}
    if args.voice_file is not None:
        try:
            recording = args.voice_file.read_bytes()
        except OSError as error:
            raise InvalidRequest(f"{args.voice_file}: {error.strerror}") from error
        body["voice_data"] = base64.b64encode(recording).decode()
    return {"input": _text(args.text), "response_format": _format(args), **body}


def _text(given: str | None) -> str:
    if given is not None:
        return given
    if sys.stdin.isatty():
        raise InvalidRequest("say what: mlxsrv say TEXT, or a text on standard input")
    return sys.stdin.read()


def _format(args: argparse.Namespace) -> str:
    if args.format is not None:
        return str(args.format)
    if args.output is None or args.output == STANDARD_OUTPUT:
        return "wav"
    suffix = args.output.suffix.lower()
    name: str = SUFFIXES.get(suffix, suffix.removeprefix("."))
    if name not in FORMATS:
        raise InvalidRequest(
            f"{args.output}: its name should end in one of {', '.join(FORMATS)}, or --format say "
            "which it is"
        )
    return name


def _player() -> str:
    found = next((path for name in PLAYERS if (path := shutil.which(name))), None)
    if found is None:
        raise InvalidRequest("there is no program here to play sound with: name a file by -o")
    return found


def _play(blocks: Iterable[bytes], player: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "speech.wav"
        _store(blocks, file, "wav")
        done = subprocess.run([player, file], check=False)
        if done.returncode != 0:
            raise MlxsrvError(f"{player} could not play it: name a file by -o")


def _write(blocks: Iterable[bytes], target: Path, form: str) -> None:
    if target == STANDARD_OUTPUT:
        for block in blocks:
            sys.stdout.buffer.write(block)
            sys.stdout.buffer.flush()
        return
    try:
        _store(blocks, target, form)
    except OSError as error:
        raise InvalidRequest(f"{target}: {error.strerror}") from error
    print(target)


def _store(blocks: Iterable[bytes], target: Path, form: str) -> None:
    """Opens the file when there is something to write: a refusal leaves the old one alone."""
    blocks = iter(blocks)
    first = next(blocks, b"")
    with target.open("wb") as file:
        file.write(first)
        for block in blocks:
            file.write(block)
    if form == "wav" and target.is_file():
        _say_length(target)


def _say_length(target: Path) -> None:
    """Puts the length into a WAV file's header, where a stream says that it is not known."""
    from mlxsrv.media.audio_encode import UNKNOWN_BYTES, wav_header

    with target.open("r+b") as file:
        head = file.read(HEADER_BYTES)
        rate = int.from_bytes(head[24:28], "little")
        if head == wav_header(rate, UNKNOWN_BYTES):
            file.seek(0)
            file.write(wav_header(rate, target.stat().st_size - HEADER_BYTES))
