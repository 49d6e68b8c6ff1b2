"""The noise that pictures begin as: the same on every backend, so that seeds mean the same."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def noise(seed: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Standard normal numbers; any integer is a seed, those equal modulo 2**64 are the same."""
    generator = np.random.Generator(np.random.Philox(seed % 2**64))
    return generator.standard_normal(shape, dtype=np.float32)
