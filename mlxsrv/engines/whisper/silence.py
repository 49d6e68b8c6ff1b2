"""Which windows hold nothing to hear. Pure.

Whisper invents text for silence, so those windows never reach it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

QUIETEST = -7.0
"""A log-mel peak no higher than that of noise in the last bit of 16-bit sound."""

RANGE = 8.0
"""Powers of ten below a recording's loudest moment that the model can still see."""


def floor_of(peak: float) -> float:
    """The log-mel value that is silence in a recording whose highest is `peak`."""
    return max(QUIETEST, peak - RANGE)


def is_silent(peaks: NDArray[np.float32], floor: float) -> bool:
    """Whether frames with these highest values are all silence."""
    return bool(peaks.max(initial=-np.inf) <= floor)
