"""What a text sounds like, in the letters of the phonetic alphabet, by espeak-ng's rules."""

from __future__ import annotations

import re

from mlxsrv.backends import espeak_library
from mlxsrv.backends.clauses import without_controls

TIE = "^"
"""Between letters that are one sound, as in t^ʃ."""

_MARKS = re.compile(r"""(\s*[;:,.!?¡¿—…"«»“”()]+(?=\s|$|[;:,.!?¡¿—…"«»“”()])|(?<!\S)[¡¿"«“(]+)""")
"""Punctuation at the end or the beginning of words, but not inside numbers."""


def phonemes(text: str, voice_file: str) -> str:
    """The phonemes of `text` with its punctuation where it stands, one space between words.

    `voice_file` is one of `espeak_library.voice_files()`. Raises LoadError where espeak-ng is
    not installed.
    """
    parts = _MARKS.split(without_controls(text))
    spoken = espeak_library.to_ipa(parts[::2], voice_file, tie=TIE)
    marks = [mark.strip() for mark in parts[1::2]]
    pieces = [_spaced(before) + found for before, found in zip(parts[::2], spoken, strict=True)]
    trails = [" " if part[-1:].isspace() else "" for part in parts[::2]]
    joined = "".join(
        piece + trail + mark
        for piece, trail, mark in zip(pieces, trails, [*marks, ""], strict=True)
    )
    return re.sub(r"\s+", " ", joined).strip()


def _spaced(part: str) -> str:
    return " " if part[:1].isspace() else ""
