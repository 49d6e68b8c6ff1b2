"""Whether a window's text is plausible, or is to be decoded again with more freedom. Pure."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

MAX_COMPRESSION = 2.4
LEAST_LOGPROB = -1.0
NO_SPEECH = 0.6
FREE = 0.5
"""What was written at a higher temperature is no example for the next window."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """A window's text, as tokens with their time stamps, and how sure the model is of it."""

    tokens: tuple[int, ...]
    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float

    @property
    def is_silence(self) -> bool:
        """The model hears no speech, and is not sure of what it wrote."""
        return self.no_speech_prob > NO_SPEECH and self.avg_logprob <= LEAST_LOGPROB

    @property
    def is_plausible(self) -> bool:
        """It does not repeat itself and is not guessed; silence is plausible whatever is in it."""
        if self.no_speech_prob > NO_SPEECH and self.avg_logprob < LEAST_LOGPROB:
            return True
        return self.compression_ratio <= MAX_COMPRESSION and self.avg_logprob >= LEAST_LOGPROB


def compression_ratio(text: str) -> float:
    """How much shorter zlib makes it: a loop of words shrinks to little."""
    data = text.encode()
    return len(data) / len(zlib.compress(data))
