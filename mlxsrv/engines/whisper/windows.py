"""From a window's tokens to segments, and to where the next window begins. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FRAMES_PER_STAMP = 2
SECONDS_PER_FRAME = 0.01
SECONDS_PER_STAMP = FRAMES_PER_STAMP * SECONDS_PER_FRAME


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens between two time stamps, and those in seconds from the recording's beginning."""

    start: float
    end: float
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Cut:
    """A window's spans, and the frame to go on at.

    `complete`: its last time stamp stands alone, so after it nothing more is said in it.
    """

    spans: tuple[Span, ...]
    seek: int
    complete: bool


def cut(tokens: Sequence[int], first_stamp: int, seek: int, size: int) -> Cut:
    """Cuts the text of the window of `size` frames at `seek`.

    Where the last words have no end, they are left for the next window.
    """
    offset = seek * SECONDS_PER_FRAME
    stamps = [token >= first_stamp for token in tokens]
    complete = stamps[-2:] == [False, True]
    ends = [n for n in range(1, len(tokens)) if stamps[n - 1] and stamps[n]]
    if not ends:
        last = next((t - first_stamp for t in reversed(tokens) if t >= first_stamp), 0)
        seconds = last * SECONDS_PER_STAMP if last else size * SECONDS_PER_FRAME
        span = Span(offset, offset + seconds, tuple(tokens))
        return Cut((span,), seek + size, complete)
    if complete:
        ends.append(len(tokens))
    spans = []
    for begin, end in zip([0, *ends], ends, strict=False):
        piece = tuple(tokens[begin:end])
        start, stop = (
            offset + (t - first_stamp) * SECONDS_PER_STAMP for t in (piece[0], piece[-1])
        )
        spans.append(Span(start, stop, piece))
    if complete:
        return Cut(tuple(spans), seek + size, complete)
    heard = (tokens[ends[-1] - 1] - first_stamp) * FRAMES_PER_STAMP
    return Cut(tuple(spans), seek + max(1, min(heard, size)), complete)
