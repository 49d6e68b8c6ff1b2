"""Write down what a Whisper should write for a window: prompt, control tokens, text, times."""

from __future__ import annotations

from bisect import bisect_right
from random import Random
from typing import NamedTuple

from tokenizers import Tokenizer

from . import tokens as T
from .pool import FRAMES, Utterance
from .windows import Placed, Window

#: The latest first timestamp that Whisper's decoders allow, in frames.
_FIRST_LATEST = FRAMES
#: How much a timestamp counts in the loss; its last digits cannot be known.
_TIME_WEIGHT = 0.5
#: The frames of a word that may be cut off before the word no longer counts as heard.
_SLACK = 6
_LONGEST_PROMPT = 100
#: Stands for any token that is not trained.
_UNKNOWN = -1


class Target(NamedTuple):
    """A token to be written, how much it counts in the loss, and the frames where it is heard."""

    token: int
    weight: float
    heard: tuple[int, int] | None = None


def _time(frame: int) -> int:
    return T.TIME + min(T.TIMES - 1, max(0, frame // 2))


class Writer:
    """Writes the tokens of windows."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._known: dict[str, list[int]] = {}
        self._word_ends: dict[str, list[int]] = {}

    def _text(self, text: str) -> list[int]:
        if text not in self._known:
            self._known[text] = T.encode(self._tokenizer, text)
        return self._known[text]

    def _prompt(self, rng: Random, before: list[Utterance]) -> list[int]:
        """Write what was said before, with timestamps or without; unknown words now and then."""
        timed = rng.random() < 0.5
        at = 0
        tokens: list[int] = []
        for utterance in before:
            text = self._text(utterance.sentence.text)
            end = at + utterance.frames
            tokens += [_time(at), *text, _time(end)] if timed else text
            at = end + rng.randint(10, 60)
        strange = 0.3 if rng.random() < 0.15 else 0.0
        tokens = [_UNKNOWN if rng.random() < strange else token for token in tokens]
        return [T.PREVIOUS, *tokens[-_LONGEST_PROMPT:]] if before else []

    def _ends(self, utterance: Utterance) -> list[int]:
        """Count the tokens up to the end of each word."""
        text = utterance.sentence.text
        if text not in self._word_ends:
            starts = [*(character for character, _ in utterance.words[1:]), len(text)]
            self._word_ends[text] = [len(self._text(text[:start].rstrip())) for start in starts]
        return self._word_ends[text]

    def _placed(self, placed: Placed) -> list[Target]:
        """Write an utterance that lies in the window wholly."""
        utterance = placed.utterance
        begins = [placed.at + frame for _, frame in utterance.words]
        spans = list(zip(begins, [*begins[1:], placed.end], strict=True))
        ends = self._ends(utterance)
        return [
            Target(token, 1.0, spans[min(bisect_right(ends, index), len(spans) - 1)])
            for index, token in enumerate(self._text(utterance.sentence.text))
        ]

    def _heard(self, placed: Placed, frames: int, translate: bool) -> list[Target]:
        """Write an utterance, or of one that is cut the words that lie in the window.

        The words of a translation have no known place: of one that is cut, nothing is written.
        """
        sentence = placed.utterance.sentence
        if placed.lies_in(frames) and not translate:
            return self._placed(placed)
        text = sentence.translation if translate else sentence.text
        if not placed.lies_in(frames):
            text = "" if translate else self._part(placed, frames)
        return [Target(token, 1.0) for token in self._text(text)] if text else []

    @staticmethod
    def _part(placed: Placed, frames: int) -> str:
        text, words = placed.utterance.sentence.text, placed.utterance.words
        ends = [*(begin for _, begin in words[1:]), placed.utterance.end]
        inside = [
            index
            for index, ((_, begin), end) in enumerate(zip(words, ends, strict=True))
            if placed.at + begin >= -_SLACK and placed.at + end <= frames + _SLACK
        ]
        if not inside:
            return ""
        first, last = inside[0], inside[-1] + 1
        stop = words[last][0] if last < len(words) else len(text)
        return text[words[first][0] : stop].strip()

    def _plain(self, window: Window, translate: bool) -> list[Target]:
        rows = (self._heard(placed, window.frames, translate) for placed in window.placed)
        return [target for row in rows for target in row]

    def _timed(self, window: Window, translate: bool) -> list[Target]:
        """Write segments; one that goes on after the window is only announced by its start."""
        out: list[Target] = []
        for placed in window.placed:
            start, end = (
                _time(min(at, window.frames) + window.offset) for at in (placed.start, placed.end)
            )
            start = start if out else min(start, _time(_FIRST_LATEST))
            goes_on = bool(out) and placed.end > window.frames
            out.append(Target(start, _TIME_WEIGHT))
            if not goes_on:
                out += self._heard(placed, window.frames, translate)
                out.append(Target(end, _TIME_WEIGHT))
        return out or [Target(_time(0), _TIME_WEIGHT)]

    def _speech(self, rng: Random, window: Window) -> list[Target]:
        """Write language, task and what was heard; in silence any language, and nothing."""
        translate = rng.random() < (0.03 if window.language == "en" else 0.4)
        index = T.LANGUAGES.index(window.language)
        language = Target(T.LANGUAGE + index, 0.3)
        if not window.placed:
            language = Target(T.LANGUAGE + rng.randrange(len(T.LANGUAGES)), 0.0)
        task = Target(T.TRANSLATE if translate else T.TRANSCRIBE, 0.0)
        if rng.random() < 0.5:
            return [language, task, *self._timed(window, translate)]
        return [language, task, Target(T.NO_TIMESTAMPS, 0.0), *self._plain(window, translate)]

    def write(self, rng: Random, window: Window) -> list[Target]:
        """Write all tokens of a window."""
        prompt = [Target(token, 0.0) for token in self._prompt(rng, window.before)]
        if not window.placed and rng.random() < 0.5:
            body = [Target(T.NO_SPEECH, 1.0)]
        else:
            body = self._speech(rng, window)
        return [*prompt, Target(T.START, 0.0), *body, Target(T.END, 1.0)]
