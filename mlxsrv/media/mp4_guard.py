"""Refuses MP4 headers that would fill the memory before a sample is read.

FFmpeg makes a table row (24 bytes and more) for each sample that a header declares, and again for
each edit of it: a file of 700 bytes can ask for gigabytes. So rows are counted first, in all that
FFmpeg could take for a header. Field layouts: ISO/IEC 14496-12.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

MAX_ROWS = 10_000_000
"""More than a day of sound has; some 350 MB at the worst."""

FIRST_BOXES = frozenset(
    b"ftyp styp moov hoov moof mdat free skip wide junk pnot uuid udta sidx".split()
)

_FIELDS = re.compile(rb"trak|hdlr|stsz|stz2|stts|stsc|stco|co64|elst|trun|cmov")
_NOT_SOUND = frozenset({b"vide", b"subp", b"clcp"})


def is_mp4(head: bytes) -> bool:
    """By the first 8 bytes of a file."""
    return head[4:8] in FIRST_BOXES


def is_harmless(data: mmap.mmap) -> bool:
    """Whether FFmpeg opens this MP4 or QuickTime file in reasonable memory."""
    tracks = [_Track()]
    for start, end in _headers(data):
        for found in _FIELDS.finditer(data, start, end):
            name, words = found[0], _Words(data, found.end())
            if name == b"trak":
                tracks.append(_Track())
            elif name == b"cmov":
                return False  # a compressed header: nothing has written one for decades
            else:
                tracks[-1].add(name, words)
    return sum(track.rows() for track in tracks) <= MAX_ROWS


class _Words:
    """The 32-bit numbers that follow a box's name; number 0 is its version and flags."""

    def __init__(self, data: mmap.mmap, start: int) -> None:
        self._data = data
        self._start = start

    def __getitem__(self, index: int) -> int:
        return int.from_bytes(self.raw(index), "big")

    def raw(self, index: int) -> bytes:
        at = self._start + 4 * index
        return self._data[at : at + 4]

    def largest(self, first: int, step: int, count: int) -> int:
        start = self._start + 4 * first
        table = self._data[start : start + 4 * step * count]
        numbers = np.frombuffer(table, ">u4", len(table) // 4)[::step]
        return int(numbers.max(initial=0))


@dataclass(slots=True)
class _Track:
    samples: int = 0
    edits: int = 1
    chunks: int = 0
    largest_chunk: int = 0
    durations: set[tuple[int, int]] = field(default_factory=set)
    """Of each table of durations: its length, and the duration in its first entry."""
    handlers: set[bytes] = field(default_factory=set)

    def add(self, name: bytes, words: _Words) -> None:
        match name:
            case b"hdlr":
                self.handlers.add(words.raw(2))
            case b"stsz" | b"stz2":
                self.samples += words[2]
            case b"trun":
                self.samples += words[1]
            case b"stts":
                self.durations.add((words[1], words[3]))
            case b"stco" | b"co64":
                self.chunks += words[1]
            case b"stsc":
                largest = words.largest(3, 3, words[1])
                self.largest_chunk = max(self.largest_chunk, largest)
            case b"elst":
                self.edits = max(self.edits, words[1])

    def rows(self) -> int:
        return self.edits * (self._blocks() if self._is_pcm() else self.samples)

    def _is_pcm(self) -> bool:
        """Where each sample of sound lasts one tick, a row stands for 1024 of them."""
        is_sound = b"soun" in self.handlers and not self.handlers & _NOT_SOUND
        return is_sound and self.durations == {(1, 1)}

    def _blocks(self) -> int:
        return self.chunks * -(-self.largest_chunk // 1024)


def _headers(data: mmap.mmap) -> Iterator[tuple[int, int]]:
    """Where the top-level boxes stand that are not the sound itself."""
    at = 0
    while at + 8 <= len(data):
        size, name = _box(data, at)
        if size < 8:
            return
        end = min(at + size, len(data))
        if name != b"mdat":
            yield at, end
        at = end


def _box(data: mmap.mmap, at: int) -> tuple[int, bytes]:
    size, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
    if size == 1:
        return int.from_bytes(data[at + 8 : at + 16], "big"), name
    return size or len(data) - at, name
