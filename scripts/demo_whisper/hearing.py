"""Make the features of windows: spectrograms from the pool, noise, and what codecs take away."""

from __future__ import annotations

import math
from random import Random

import numpy as np
import torch

from .pool import FLOOR, HOP, MELS, RATE, Floats, Mel, Pool
from .windows import WHOLE, Window

_NOISES = 48
_LN10 = math.log(10.0)


def _make_noise(generator: np.random.Generator) -> Floats:
    """Make 30 s of white, pink or brown noise, some of it with a hum or swelling."""
    size = HOP * WHOLE
    seconds = np.arange(size) / RATE
    spectrum = np.fft.rfft(generator.standard_normal(size))
    frequency = np.maximum(1.0, np.arange(len(spectrum)) / 30.0)
    wave = np.fft.irfft(spectrum * frequency ** -generator.choice([0.0, 0.0, 0.5, 1.0]), size)
    wave /= wave.std()
    if generator.random() < 0.4:
        pitch, loudness = generator.uniform(45, 400), generator.uniform(0.3, 2.0)
        wave += loudness * np.sin(2 * np.pi * pitch * seconds)
    if generator.random() < 0.3:
        wave *= 0.6 + 0.4 * np.sin(generator.uniform(0.5, 6.0) * seconds)
    return wave.astype(np.float32)


def make_noises(seed: int) -> torch.Tensor:
    """Make the spectrograms of noises: (count, 80, frames), each at most 0."""
    generator, mel = np.random.default_rng(seed), Mel()
    noises = np.stack([mel(_make_noise(generator)).T for _ in range(_NOISES)])
    return torch.from_numpy(noises - noises.max((1, 2), keepdims=True))


def _paint(rng: Random, pool: Pool, window: Window) -> Floats:
    """Lay the utterances' spectrograms into a silent window, shape (80, frames)."""
    canvas = np.full((window.frames, MELS), FLOOR, np.float32)
    slope = rng.uniform(-0.4, 0.4) if rng.random() < 0.2 else 0.0
    colour = rng.uniform(-3.0, 0.5) + np.linspace(-slope, slope, MELS, dtype=np.float32)
    for placed in window.placed:
        low, high = max(0, placed.at), min(window.frames, placed.at + placed.utterance.frames)
        frames = pool.features(placed.utterance)[low - placed.at : high - placed.at]
        canvas[low:high] = np.maximum(frames + colour + rng.uniform(-0.2, 0.2), FLOOR)
    return canvas.T


def _add_noise(
    rng: Random, noises: torch.Tensor, window: Window, heard: torch.Tensor
) -> torch.Tensor:
    """Add a noise, 25 to 70 dB below the speech, or at any level where there is none."""
    level = rng.uniform(-6.0, 1.0)
    if window.placed:
        level = float(heard.max()) - rng.triangular(2.5, 7.0, 4.5)
    begin = rng.randint(0, WHOLE - window.frames)
    noise = noises[rng.randrange(len(noises)), :, begin : begin + window.frames] + level
    return torch.logaddexp(heard * _LN10, noise * _LN10) / _LN10


def normalise(heard: torch.Tensor) -> torch.Tensor:
    """Bring logarithms of power (…, 80, frames) into Whisper's range, window by window."""
    loudest = heard.amax((-2, -1), keepdim=True)
    return (torch.maximum(heard, loudest - 8.0) + 4.0) / 4.0


def hear(rng: Random, pool: Pool, noises: torch.Tensor, windows: list[Window]) -> torch.Tensor:
    """Make the features of windows, (batch, 80, frames), with noise in every fifth of them."""
    heard = torch.from_numpy(np.stack([_paint(rng, pool, window) for window in windows]))
    for row, window in enumerate(windows):
        if rng.random() < (0.2 if window.placed else 0.5):
            heard[row] = _add_noise(rng, noises, window, heard[row])
        if rng.random() < 0.05:  # a codec or a telephone
            heard[row, rng.randint(48, 79) :] = FLOOR
    return normalise(heard.clamp(min=FLOOR))
