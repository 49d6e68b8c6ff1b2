"""Arrange windows: which utterances of the pool stand where.

A window is what the model sees at once: 30 s when it is served.  In training most windows are
shorter, to save time; such a window stands for a whole one of which the rest is silent, and
``offset`` says where in the whole it lies.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from .pool import FRAMES, Pool, Utterance

WHOLE = 30 * FRAMES
#: A sentence that has fewer frames than this left in its window is not begun.
_LEAST = 20


@dataclass(frozen=True, slots=True)
class Placed:
    """An utterance in a window: ``at`` is the frame of its first one, negative if cut there."""

    utterance: Utterance
    at: int

    @property
    def start(self) -> int:
        """The frame where its sound begins."""
        return self.at + self.utterance.start

    @property
    def end(self) -> int:
        """The frame where its sound ends."""
        return self.at + self.utterance.end

    def lies_in(self, frames: int) -> bool:
        """Whether all of its sound lies in a window of so many frames."""
        return self.start >= 0 and self.end <= frames


@dataclass(slots=True)
class Window:
    """A window: its utterances in order, and what was said before it."""

    frames: int
    offset: int
    language: str
    placed: list[Placed] = field(default_factory=list)
    before: list[Utterance] = field(default_factory=list)

    @property
    def cut(self) -> bool:
        """Whether an utterance does not lie in the window wholly."""
        return not all(placed.lies_in(self.frames) for placed in self.placed)

    @property
    def is_last(self) -> bool:
        """Whether the window ends where the whole one does, so that speech may go on after it."""
        return self.offset + self.frames == WHOLE


def _gap(rng: Random, frames: int) -> int:
    """Draw the silence after a sentence; espeak-ng's own is 0.3 s."""
    roll = rng.random()
    if roll < 0.6:
        return rng.randint(24, 42)
    if roll < 0.95 or frames < WHOLE:
        return rng.randint(8, 120)
    return rng.randint(120, 900)


def _lead(rng: Random, frames: int) -> int:
    """Draw the silence before the first sentence."""
    roll = rng.random()
    if roll < 0.45:
        return rng.randint(0, 6)
    if roll < 0.85 or frames < 800:
        return rng.randint(0, min(80, frames // 8))
    return rng.randint(80, min(900, frames // 2))


def _before(rng: Random, group: list[Utterance], index: int, frames: int) -> list[Utterance]:
    """Draw what was said before, for the prompt; mostly nothing, mostly what really was."""
    whole = frames == WHOLE
    if rng.random() > (0.2 if whole else 0.05):
        return []
    end = index if rng.random() < 0.8 else rng.randrange(len(group))
    return group[max(0, end - rng.randint(1, 8 if whole else 2)) : end]


def _place(rng: Random, window: Window, group: list[Utterance], index: int) -> None:
    """Fill a window with the utterances from ``index`` on, now and then with only a few."""
    at = _lead(rng, window.frames)
    if rng.random() < 0.04:  # a window that begins in the middle of a sentence
        at = -rng.randint(0, group[index].frames // 2)
    most = rng.randint(1, 3) if rng.random() < 0.35 else WHOLE
    may_cut = window.is_last and rng.random() < 0.75
    while at < window.frames - _LEAST and len(window.placed) < most:
        utterance = group[index % len(group)]
        if at + utterance.frames > window.frames and window.placed and not may_cut:
            break
        window.placed.append(Placed(utterance, at))
        at += utterance.frames + _gap(rng, window.frames)
        index = index + 1 if rng.random() < 0.9 else rng.randrange(len(group))


def arrange(rng: Random, pool: Pool, frames: int) -> Window:
    """Draw a window of ``frames`` frames; some are silent."""
    offset = rng.choice((0, 0, WHOLE - frames, 2 * rng.randint(0, (WHOLE - frames) // 2)))
    sizes = [len(group) for group in pool.by_language.values()]
    window = Window(frames, offset, rng.choices(list(pool.by_language), sizes)[0])
    if rng.random() > 0.04:
        group = pool.by_language[window.language]
        index = rng.randrange(len(group))
        window.before = _before(rng, group, index, frames)
        _place(rng, window, group, index)
    return window
