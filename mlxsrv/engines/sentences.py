"""A long text in pieces that can be spoken one after the other. Pure.

Together the pieces are the text, up to white space: nothing is lost, nothing comes twice.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

CLOSERS = "\"'”’»›)\\]}』」）】》"
ENDS = re.compile(
    rf"(?<=[.!?…؟۔।։።])[{CLOSERS}]*(?=\s)"  # in scripts with spaces
    rf"|(?<=[。！？｡])[{CLOSERS}]*(?![{CLOSERS}。！？｡])"
)
BREAKS = re.compile(r"\n\s*\n|\n(?=\s*(?:[-*•–—]|\d{1,3}[.)])\s)")
"""Where a line ends a sentence without saying so: paragraphs, and the items of lists."""

CLAUSES = re.compile(rf"[,;:،؛][{CLOSERS}]*(?=\s)|[、，；：]|\s[-–—](?=\s)|—")

LAST_WORD = re.compile(r"[^\s(\"'“‘„]*$")

_ABBREVIATIONS = """
adm approx apr aug ave bd bros ca capt cf ch co col corp dec dept dr ed eq esp est etc ex feb fig
fr gen gov hon inc jan jr lt ltd maj max min mme mr mrs ms mt nov oct op p pp phd pl prof pt rd ref
rep rev sen sep sept sgt sr st str univ vol vs
abb bspw bzw evtl ggf hr hrsg inkl nr sog tel usw vgl zzgl av mlle tél núm pág sra srta
"""
ABBREVIATIONS = frozenset(_ABBREVIATIONS.split())
NUMBERED = frozenset({"no", "nos", "sec"})
"""Abbreviations before a number, words elsewhere."""

SHORT = 20
"""A sentence of less is spoken together with the next one: models say single words badly."""

WIDE, DIGIT, SYMBOL = 3.5, 4.0, 10.0
"""How long one is spoken, against a letter: an ideograph, a digit, an emoji with a name."""


def pieces(text: str, most: float, first: float | None = None) -> Iterator[str]:
    """Sentences, or parts of those that are longer than `most`; see `weight`.

    `first` bounds the first piece, which should be there soon. Each piece holds something
    else than white space.
    """
    limit = most if first is None else min(first, most)
    alone = True
    for paragraph in BREAKS.split(cleaned(text)):
        for sentence in _joined(_sentences(paragraph), most, alone=alone):
            for part in _parts(sentence, most, limit):
                yield part
                limit, alone = most, False


def halves(piece: str) -> list[str]:
    """The same in two pieces or more; in one where it can't be cut."""
    half = weight(piece) / 2
    return list(_parts(piece, half, half))


def cleaned(text: str) -> str:
    """The text with spaces in place of control characters but line breaks."""
    return "".join(
        " " if char != "\n" and unicodedata.category(char) in {"Cc", "Cs"} else char
        for char in text.replace("\r\n", "\n").replace("\r", "\n")
    )


def weight(text: str) -> float:
    """About how long it takes to say, in letters: some fifteen go into a second."""
    return sum(map(_weight, text))


def _weight(char: str) -> float:
    category = unicodedata.category(char)
    if category in {"So", "Sm", "Sc"}:
        return SYMBOL
    if category.startswith("N"):
        return DIGIT
    return WIDE if unicodedata.east_asian_width(char) in "WF" else 1.0


def _joined(sentences: Iterable[str], most: float, *, alone: bool) -> Iterator[str]:
    """Short sentences together with those after them; the first of a text stays `alone`."""
    held = ""
    for sentence in sentences:
        if held and weight(held) < SHORT and not alone and weight(held + sentence) <= most:
            held += sentence
            continue
        if held:
            alone = False
            yield held
        held = sentence
    if held:
        yield held


def _sentences(paragraph: str) -> Iterator[str]:
    """With the white space around them."""
    start = 0
    for end in (*_ends(paragraph), len(paragraph)):
        if paragraph[start:end].strip():
            yield paragraph[start:end]
            start = end


def _ends(text: str) -> Iterator[int]:
    """Where sentences end. A full stop is also what abbreviations have, and none does where
    the text goes on with a small letter."""
    for found in ENDS.finditer(text):
        stop, end = found.start() - 1, found.end()
        following = text[end : end + 20].lstrip()[:1]
        if following.islower() or (text[stop] == "." and _abbreviated(text, stop, following)):
            continue
        yield end


def _abbreviated(text: str, stop: int, following: str) -> bool:
    """Whether the full stop at `stop` is part of the word before it."""
    word = LAST_WORD.search(text, max(0, stop - 20), stop)
    name = word.group().lower() if word else ""
    if name in NUMBERED:
        return following.isdigit()
    is_initial = len(name) == 1 and name.isalpha() and name != "i"
    dotted = "." in name and all(len(part) == 1 for part in name.split("."))
    return is_initial or dotted or name in ABBREVIATIONS


def _parts(sentence: str, most: float, first: float) -> Iterator[str]:
    """A sentence cut where it hurts least until no part is longer than it may be."""
    text = " ".join(sentence.split())
    start, limit = 0, first
    while start < len(text):
        end = _cut(text, start, limit)
        yield text[start:end].strip()
        start, limit = end + (text[end : end + 1] == " "), most


def _cut(text: str, start: int, limit: float) -> int:
    """Where a part that weighs at most `limit` ends: after a clause if that leaves a third,
    else between words, else between characters."""
    longest = _longest(text, start, limit)
    if longest == len(text):
        return longest
    ends = (found.end() for found in CLAUSES.finditer(text, start, longest + 1))
    clause = max((end for end in ends if end <= longest), default=start)
    if clause - start >= (longest - start) / 3:
        return clause
    space = text.rfind(" ", start + 1, longest + 1)
    return space if space > 0 else longest


def _longest(text: str, start: int, limit: float) -> int:
    """The end of what weighs no more than `limit`, of one character at least."""
    total = 0.0
    for place in range(start, len(text)):
        total += _weight(text[place])
        if total > limit and place > start and not _combines(text, place):
            return place
    return len(text)


def _combines(text: str, place: int) -> bool:
    """Whether the character there belongs to the one before it."""
    char, before = text[place], text[place - 1]
    marks = unicodedata.category(char).startswith("M") or char in "\u200d\u200c"
    return marks or before == "\u200d" or "\U0001f3fb" <= char <= "\U0001f3ff"
