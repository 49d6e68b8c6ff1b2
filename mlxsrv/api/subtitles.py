"""Subtitles: SubRip (srt) and WebVTT (https://www.w3.org/TR/webvtt1/). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from mlxsrv.core.transcription import Segment


class Cue(NamedTuple):
    """What is shown, and from when to when, in seconds."""

    start: float
    end: float
    text: str


def cues(segments: Iterable[Segment], *, words: bool) -> Iterator[Cue]:
    """One for each segment, or for each word, that says something."""
    for segment in segments:
        if words and segment.words:
            yield from (Cue(word.start, word.end, word.text.strip()) for word in segment.words)
        elif segment.text.strip():
            yield Cue(segment.start, segment.end, segment.text.strip())


def srt(shown: Iterable[Cue]) -> str:
    return "".join(
        f"{number}\n{_clock(cue.start, ',')} --> {_clock(cue.end, ',')}\n{_lines(cue.text)}\n\n"
        for number, cue in enumerate(shown, 1)
    )


def vtt(shown: Iterable[Cue]) -> str:
    return "WEBVTT\n\n" + "".join(
        f"{_clock(cue.start, '.')} --> {_clock(cue.end, '.')}\n{_escaped(_lines(cue.text))}\n\n"
        for cue in shown
    )


def _clock(seconds: float, point: str) -> str:
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    minutes, second = divmod(whole, 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour:02d}:{minute:02d}:{second:02d}{point}{milliseconds:03d}"


def _lines(text: str) -> str:
    """An empty line would end the cue, and an arrow begin another."""
    return "\n".join(line for line in text.splitlines() if line.strip()).replace("-->", "->")


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
