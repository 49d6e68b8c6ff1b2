"""Samples from and to the forms that codecs use. Pure.

Inside the product sound is mono float32 between -1 and 1. A 16-bit sample s is the float
s / 32768, so 16-bit sound comes through unchanged.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

SCALES = {"u8": 1 / 128, "s16": 1 / 32768, "s32": 1 / 2**31, "flt": 1.0, "dbl": 1.0}
"""By FFmpeg's name of a sample format (`p` for planar taken off): what full scale is worth."""


def to_mono(samples: NDArray[Any], channels: int, kind: str) -> NDArray[np.float32]:
    """The mean of all channels, scaled but not yet cleaned: `[n]`.

    `samples` is `[channels, n]`, or `[1, n * channels]` where the channels are interleaved;
    `kind` is a key of SCALES.
    """
    planes = samples if len(samples) == channels else samples.reshape(-1, channels).T
    with np.errstate(over="ignore", invalid="ignore"):
        total: NDArray[np.float32] = planes[0].astype(np.float32)
        for plane in planes[1:]:
            total += plane
        total *= np.float32(SCALES[kind] / channels)
    if kind == "u8":
        total -= np.float32(1)
    return total


def cleaned(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same samples with what is no number at 0 and the rest within -1 and 1."""
    if samples.size == 0 or np.abs(samples).max() <= 1:
        return samples
    return np.clip(np.where(np.isfinite(samples), samples, np.float32(0)), -1, 1)


def float_to_s16(samples: NDArray[np.float32]) -> NDArray[np.int16]:
    """Rounded to the nearest 16-bit value; what is too loud is clipped, never wrapped."""
    return np.clip(np.rint(cleaned(samples) * 32768), -32768, 32767).astype("<i2")
