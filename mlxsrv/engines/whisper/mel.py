"""Whisper's log-mel frames of a stream of samples.

The short-time Fourier transform with a Hann window, in Slaney's mel bands (Auditory Toolbox,
1998: linear below 1 kHz, logarithmic above, each of area one).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Floats = NDArray[np.float32]

RATE = 16_000
HOP = 160
WINDOW = 400
FRAMES_PER_SECOND = RATE // HOP

LEAST_POWER = 1e-10
SILENCE = -10.0
"""The logarithm of the least power: what digital silence has in every band."""

_LINEAR_HZ = 200 / 3
_BREAK_HZ = 1000.0
_BREAK_MEL = _BREAK_HZ / _LINEAR_HZ
_LOG_STEP = math.log(6.4) / 27


def mel_filters(bands: int) -> Floats:
    """Weights [WINDOW // 2 + 1, bands] from the powers of frequencies to those of mel bands."""
    frequencies = np.linspace(0, RATE / 2, WINDOW // 2 + 1)
    edges = _hertz(np.linspace(0, _mel(RATE / 2), bands + 2))
    slopes = edges[:, None] - frequencies
    widths = np.diff(edges)
    rising = -slopes[:-2] / widths[:-1, None]
    falling = slopes[2:] / widths[1:, None]
    areas = 2 / (edges[2:] - edges[:-2])
    weights = np.maximum(0, np.minimum(rising, falling)) * areas[:, None]
    return np.ascontiguousarray(weights.T, np.float32)


def _mel(hertz: float) -> float:
    return _BREAK_MEL + math.log(hertz / _BREAK_HZ) / _LOG_STEP


def _hertz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    logarithmic = _BREAK_HZ * np.exp(_LOG_STEP * (mel - _BREAK_MEL))
    return np.where(mel < _BREAK_MEL, _LINEAR_HZ * mel, logarithmic)


class LogMel:
    """Frames of log10 power, HOP samples apart, as the samples come.

    The first is centred on the first sample, before which the sound is mirrored; what
    follows the last is silence.
    """

    def __init__(self, bands: int) -> None:
        self.bands = bands
        self._filters = mel_filters(bands)
        self._hann = np.hanning(WINDOW + 1)[:-1].astype(np.float32)
        self._held = np.zeros(0, np.float32)
        self._begun = False

    def feed(self, samples: Floats) -> Floats:
        """Frames [n, bands] that are complete."""
        held = np.concatenate([self._held, samples])
        half = WINDOW // 2
        if not self._begun and len(held) > half:
            held = np.concatenate([held[half:0:-1], held])
            self._begun = True
        count = max(0, (len(held) - WINDOW) // HOP + 1) if self._begun else 0
        self._held = held[count * HOP :]
        return self._frames(held, count)

    def finish(self) -> Floats:
        """All other frames that hear a sample."""
        return self.feed(np.zeros(WINDOW, np.float32))

    def _frames(self, held: Floats, count: int) -> Floats:
        heard = held[: (count - 1) * HOP + WINDOW] if count else held[:0]
        if not heard.any():
            return np.full((count, self.bands), SILENCE, np.float32)
        windows = sliding_window_view(heard, WINDOW)[::HOP]
        spectrum = np.fft.rfft(windows * self._hann)
        power = spectrum.real**2 + spectrum.imag**2
        mel: Floats = np.log10(np.maximum(power @ self._filters, np.float32(LEAST_POWER)))
        return mel
