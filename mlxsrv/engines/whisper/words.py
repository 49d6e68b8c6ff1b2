"""From the times of tokens to those of words, after OpenAI's timing.py. Pure."""

from __future__ import annotations

import itertools
import string
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mlxsrv.core.transcription import Segment, Word
from mlxsrv.engines.whisper.vocabulary import Vocabulary

BEFORE = "\"'“¿([{-"
AFTER = "\"'.。,，!！?？:：”)]}、"
SENTENCE_ENDS = ".。!！?？"
UNSPACED = frozenset({"zh", "ja", "th", "lo", "my", "yue"})
"""Languages without spaces between words: there each character is one."""

LONGEST_TYPICAL = 0.7
BROKEN = "\ufffd"


@dataclass(slots=True)
class Timed:
    """A word on its way: seconds from its window's beginning, and how many tokens it has."""

    text: str
    tokens: int
    start: float
    end: float


def split_words(
    tokens: Sequence[int], vocabulary: Vocabulary, language: str
) -> list[tuple[str, int]]:
    """The words of a text, each with its number of tokens."""
    characters = _whole_characters(tokens, vocabulary)
    if language in UNSPACED:
        return characters
    words: list[tuple[str, int]] = []
    for text, count in characters:
        is_sign = text.strip() in string.punctuation
        if text.startswith(" ") or is_sign or not words:
            words.append((text, count))
        else:
            words[-1] = (words[-1][0] + text, words[-1][1] + count)
    return words


def _whole_characters(tokens: Sequence[int], vocabulary: Vocabulary) -> list[tuple[str, int]]:
    """The shortest runs of tokens that do not end within a character."""
    whole = vocabulary.text(tokens)
    found: list[tuple[str, int]] = []
    held: list[int] = []
    place = 0
    for token in tokens:
        held.append(token)
        text = vocabulary.text(held)
        broken = text.find(BROKEN)
        if broken < 0 or whole[place + broken : place + broken + 1] == BROKEN:
            found.append((text, len(held)))
            place += len(text)
            held = []
    if held:
        found.append((vocabulary.text(held), len(held)))
    return found


def timed_words(words: Iterable[tuple[str, int]], times: NDArray[np.float64]) -> list[Timed]:
    """`times` are those of each token, and of the end."""
    timed = []
    place = 0
    for text, count in words:
        start, end = float(times[place]), float(times[place + count])
        timed.append(Timed(text, count, start, end))
        place += count
    return timed


def typical_length(words: Iterable[Timed]) -> float:
    """The median length of words that take time, in seconds."""
    lengths = [word.end - word.start for word in words if word.end > word.start]
    return min(LONGEST_TYPICAL, float(np.median(lengths))) if lengths else 0.0


def shorten_at_sentences(words: Sequence[Timed], longest: float) -> None:
    """What is long beside the end of a sentence is a pause."""
    for before, word in itertools.pairwise(words):
        if word.end - word.start > longest:
            if word.text in SENTENCE_ENDS:
                word.end = word.start + longest
            elif before.text in SENTENCE_ENDS:
                word.start = word.end - longest


def merge_punctuation(words: Sequence[Timed]) -> None:
    """Signs go to the word they belong to; what they leave behind has no text and no tokens."""
    following = len(words) - 1
    for place in range(len(words) - 2, -1, -1):
        sign = words[place]
        if sign.text.startswith(" ") and sign.text.strip() in BEFORE:
            _join(sign, words[following], into=words[following])
        else:
            following = place
    previous = 0
    for place in range(1, len(words)):
        sign = words[place]
        if not words[previous].text.endswith(" ") and sign.text in AFTER:
            _join(words[previous], sign, into=words[previous])
        else:
            previous = place


def _join(first: Timed, second: Timed, *, into: Timed) -> None:
    other = second if into is first else first
    into.text, into.tokens = first.text + second.text, first.tokens + second.tokens
    other.text, other.tokens = "", 0


def with_words(
    segments: Sequence[Segment],
    words: Sequence[Timed],
    text_tokens: Sequence[int],
    offset: float,
    spoken_until: float,
) -> list[Segment]:
    """The segments of one window with their words, which also say when the segments are spoken.

    `text_tokens` says how many each segment has; the window begins at `offset` seconds;
    `spoken_until` is where the last word before it ended.
    """
    typical = typical_length(words)
    if typical:
        shorten_at_sentences(words, 2 * typical)
    merge_punctuation(words)
    found = []
    for segment, own_words in zip(segments, _shared_out(words, text_tokens), strict=True):
        own = [
            Word(word.text, round(offset + word.start, 2), round(offset + word.end, 2))
            for word in own_words
            if word.text
        ]
        fitted = _fitted(segment, own, typical, spoken_until) if own else segment
        spoken_until = fitted.end if own else spoken_until
        found.append(fitted)
    return found


def _shared_out(words: Iterable[Timed], text_tokens: Iterable[int]) -> Iterator[list[Timed]]:
    """Each segment's words: those that begin among its tokens."""
    rest = deque(words)
    place = 0
    for end in itertools.accumulate(text_tokens):
        own = []
        while rest and place < end:
            own.append(rest.popleft())
            place += own[-1].tokens
        yield own


def _fitted(segment: Segment, words: list[Word], typical: float, spoken_until: float) -> Segment:
    """Words at a segment's ends tend to swallow the pause beside it."""
    longest = 2 * typical
    if words[0].end - spoken_until > 4 * typical:
        _shorten_after_pause(words, longest)
    start, end = segment.start, segment.end
    if words[0].start + 0.5 < start < words[0].end:
        words[0] = replace(words[0], start=max(0.0, min(words[0].end - typical, start)))
    else:
        start = words[0].start
    if words[-1].start < end < words[-1].end - 0.5:
        words[-1] = replace(words[-1], end=max(words[-1].start + typical, end))
    else:
        end = words[-1].end
    return replace(segment, start=start, end=end, words=tuple(words))


def _shorten_after_pause(words: list[Word], longest: float) -> None:
    first = words[0]
    second = words[1] if len(words) > 1 else None
    if first.end - first.start <= longest and (
        second is None or second.end - first.start <= 2 * longest
    ):
        return
    if second is not None and second.end - second.start > longest:
        border = max(second.end / 2, second.end - longest)
        words[1] = replace(second, start=border)
        first = replace(first, end=border)
    words[0] = replace(first, start=max(0.0, first.end - longest))
