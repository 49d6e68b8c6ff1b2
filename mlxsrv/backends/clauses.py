"""Text in pieces that are quick to speak. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

_BREAKS = (
    re.compile(r"[.!?…]['\"”’)\]]*\s+(?=[^\Wa-z_])|[。！？]"),
    re.compile(r"[,;:–—]\s+|[、，；：]"),
    re.compile(r"\s+"),
)
"""Where to end a piece, the best first: sentences, clauses, words."""

_HEAVY = 6
"""A digit, a symbol or a letter of an alphabet without cases can be as long as a word."""


def pieces(text: str, most: int) -> Iterator[str]:
    """The text in order, in pieces of about `most` Latin letters at most, none of them blank.

    A piece ends with a sentence where it can, else a clause, else a word.
    """
    text = text.strip()
    while text:
        end = _reach(text, most)
        if end < len(text):
            end = _last_break(text, end)
        yield text[:end].rstrip()
        text = text[end:].lstrip()


_SOUNDLESS = frozenset({"Cc", "Cn", "Co", "Cs"})
"""Categories: controls, what is not assigned or for private use, halves of surrogate pairs."""


def without_controls(text: str) -> str:
    """Spaces in place of what is no character of any script.

    Some of it would be commands to espeak-ng, and some makes it crash.
    """
    return "".join(" " if unicodedata.category(c) in _SOUNDLESS else c for c in text)


def _reach(text: str, most: int) -> int:
    """How many characters fit into a piece, at least one."""
    weight = 0
    for at, character in enumerate(text):
        weight += 1 if _is_light(character) else _HEAVY
        if weight > most and at:
            return at
    return len(text)


def _is_light(character: str) -> bool:
    return unicodedata.category(character) in {"Ll", "Lu", "Zs", "Mn", "Po", "Pd"}


def _last_break(text: str, end: int) -> int:
    for pattern in _BREAKS:
        ends = [found.end() for found in pattern.finditer(text, 0, end)]
        if ends:
            return ends[-1]
    return end
