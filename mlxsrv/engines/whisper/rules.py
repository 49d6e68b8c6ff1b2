"""What Whisper may write next: OpenAI's rules on the logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mlxsrv.engines.whisper.vocabulary import Special, Vocabulary

Floats = NDArray[np.float32]

MAX_FIRST_STAMP = 50
"""The first sound of a window is at most a second from its beginning."""

NEVER = np.float32(-np.inf)


@dataclass(frozen=True, slots=True)
class Rules:
    """Time stamps come in pairs, never fall, and open every window; some tokens never come."""

    special: Special
    suppressed: NDArray[np.int64]
    blank: NDArray[np.int64] = field(repr=False)

    @classmethod
    def of(cls, vocabulary: Vocabulary) -> Rules:
        special = vocabulary.special
        suppressed = sorted(vocabulary.suppressed | {special.no_stamps})
        return cls(special, np.array(suppressed), np.array(sorted(vocabulary.blank)))

    def apply(self, logits: Floats, written: Sequence[int]) -> Floats:
        """Logits [vocabulary] with those of forbidden tokens at minus infinity.

        `written` is what the window has so far, without its prompt.
        """
        allowed = logits.copy()
        allowed[self.suppressed] = NEVER
        if written:
            self._keep_pairs(allowed, written)
        else:
            self._open(allowed)
        self._prefer_stamps(allowed)
        return allowed

    def _open(self, allowed: Floats) -> None:
        first = self.special.first_stamp
        allowed[self.blank] = NEVER
        allowed[:first] = NEVER
        allowed[first + MAX_FIRST_STAMP + 1 :] = NEVER

    def _keep_pairs(self, allowed: Floats, written: Sequence[int]) -> None:
        first, end = self.special.first_stamp, self.special.end
        after_stamp = written[-1] >= first
        opened = after_stamp and (len(written) < 2 or written[-2] >= first)
        if opened:
            allowed[first:] = NEVER
        elif after_stamp:
            allowed[:end] = NEVER
        last = next((token for token in reversed(written) if token >= first), None)
        if last is not None:
            # A segment takes time; the next may begin where it ended.
            lowest = last if after_stamp and not opened else last + 1
            allowed[first:lowest] = NEVER

    def _prefer_stamps(self, allowed: Floats) -> None:
        """A time stamp comes where all together are likelier than any one other token."""
        first = self.special.first_stamp
        text, stamps = allowed[:first], allowed[first:]
        highest = stamps.max(initial=NEVER)
        if highest == NEVER:
            return
        together = highest + np.log(np.exp(stamps - highest).sum())
        if together > text.max():
            text[:] = NEVER
