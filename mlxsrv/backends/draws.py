"""The random numbers of one sequence: token n always gets the n-th draw of its seed.

Both backends sample by inverting the distribution at a draw from here, so a seeded request
repeats whatever it is batched with, and both backends agree.
"""

from __future__ import annotations

import numpy as np


class Draws:
    """Uniform draws in [0, 1) from PCG64 seeded with `seed`, the first `skip` left out."""

    def __init__(self, seed: int, skip: int = 0) -> None:
        bits = np.random.PCG64(seed)
        bits.advance(skip)
        self._generator = np.random.Generator(bits)

    def next(self) -> float:
        return float(self._generator.random())
