"""`mlxsrv transcribe`: what is said in files, as text or subtitles."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlxsrv.api.subtitles import Cue, srt, vtt
from mlxsrv.cli import ps
from mlxsrv.cli.bar import seconds_bar
from mlxsrv.cli.client import Client
from mlxsrv.cli.finding import client_that
from mlxsrv.core.errors import InvalidRequest
from mlxsrv.core.kinds import Kind

FORMATS = ("text", "srt", "vtt", "json")
SUFFIXES = {"text": ".txt"}
TOY = "demo-whisper"

MANY_BYTES = 20_000_000
"""A larger file is sent as its sound alone: servers bound what they take."""

RATE = 16_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path, help="sound or video")
    parser.add_argument("--model", help="folder, hub id or served name (default: the server's)")
    parser.add_argument("--format", choices=FORMATS, default="text")
    parser.add_argument("--language", help="spoken in the files, such as en (default: find out)")
    parser.add_argument("--translate", action="store_true", help="into English")
    parser.add_argument("--prompt", help="names and words that come in the files")
    parser.add_argument("--temperature", type=float, help="0 to 1")
    parser.add_argument("--word-timestamps", action="store_true", help="when each word is spoken")
    parser.add_argument(
        "-o", "--output-dir", type=Path, help="a file there for each (default: standard output)"
    )
    parser.add_argument("--backend", help="auto, mlx or torch, where a server has to be started")
    ps.add_server_flags(parser)


def run(args: argparse.Namespace) -> int:
    for file in args.files:
        if not file.is_file():
            raise InvalidRequest(f"no such file: {file}")
    with ExitStack() as stack:
        client, model = client_that("transcribes", args, stack, Kind.STT, TOY)
        for file in args.files:
            _write(_transcribe(client, model, file, args), file, args)
    return 0


@dataclass(slots=True)
class _Transcript:
    """What has come of one file."""

    text: str = ""
    language: str = ""
    duration: float = 0.0
    segments: list[dict[str, Any]] = field(default_factory=list)

    def write(self, form: str, *, words: bool) -> str:
        match form:
            case "text":
                return self.text + "\n"
            case "json":
                return json.dumps(self._facts(), ensure_ascii=False, indent=2) + "\n"
        shown = list(self._cues(words=words))
        return srt(shown) if form == "srt" else vtt(shown)

    def _facts(self) -> dict[str, Any]:
        return {
            "text": self.text,
            "language": self.language,
            "duration": self.duration,
            "segments": self.segments,
        }

    def _cues(self, *, words: bool) -> Iterator[Cue]:
        for segment in self.segments:
            if words and segment.get("words"):
                yield from (Cue(w["start"], w["end"], w["word"]) for w in segment["words"])
            elif segment["text"].strip():
                yield Cue(segment["start"], segment["end"], segment["text"].strip())


def _transcribe(client: Client, model: str, file: Path, args: argparse.Namespace) -> _Transcript:
    """Raises ServerAbsent, ServerRefused, and InvalidRequest for a file without sound."""
    path = "/v1/audio/translations" if args.translate else "/v1/audio/transcriptions"
    found = _Transcript()
    with seconds_bar() as show, _sound(file) as sound:
        for event in client.upload(path, _fields(model, args), [("file", sound)]):
            match event["type"]:
                case "transcript.text.segment":
                    del event["type"]
                    found.segments.append(event)
                case "transcript.progress" if show is not None:
                    show(file.name, event["seconds"], event["duration"])
                case "transcript.text.done":
                    found.text, found.language = event["text"], event["language"]
                    found.duration = event["duration"]
    return found


def _fields(model: str, args: argparse.Namespace) -> list[tuple[str, str]]:
    given = {"language": args.language, "prompt": args.prompt, "temperature": args.temperature}
    fields = [("model", model), ("response_format", "verbose_json")]
    fields += [(name, str(value)) for name, value in given.items() if value is not None]
    if args.word_timestamps:
        fields += [("timestamp_granularities[]", kind) for kind in ("segment", "word")]
    return fields


@contextmanager
def _sound(file: Path) -> Iterator[Path]:
    """The file, or a smaller one with its sound as Whisper hears it."""
    if file.stat().st_size <= MANY_BYTES:
        yield file
        return
    from mlxsrv.media.audio_decode import decode
    from mlxsrv.media.audio_encode import encoder_for

    with tempfile.TemporaryDirectory() as folder:
        sound = Path(folder) / f"{file.stem}.flac"
        encoder = encoder_for("flac", RATE)
        with sound.open("wb") as target:
            for block in decode(file, rate=RATE):
                target.write(encoder.encode(block))
            target.write(encoder.finish())
        yield sound


def _write(found: _Transcript, file: Path, args: argparse.Namespace) -> None:
    text = found.write(args.format, words=args.word_timestamps)
    if args.output_dir is None:
        print(text, end="", flush=True)
        return
    args.output_dir.mkdir(parents=True, exist_ok=True)
    suffix = SUFFIXES.get(args.format, f".{args.format}")
    target = args.output_dir / f"{file.stem}{suffix}"
    target.write_text(text, encoding="utf-8")
    print(target)
