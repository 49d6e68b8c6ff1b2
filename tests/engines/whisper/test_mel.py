"""The log-mel frames against torch's transform and transformers' filters."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from transformers.audio_utils import mel_filter_bank

from mlxsrv.engines.whisper.mel import HOP, WINDOW, LogMel, mel_filters
from mlxsrv.engines.whisper.spectrogram import Spectrogram

Floats = NDArray[np.float32]


def sound(samples: int, seed: int = 0) -> Floats:
    rng = np.random.default_rng(seed)
    loud = np.repeat(rng.uniform(0.001, 0.5, samples // 4000 + 1), 4000)[:samples]
    return (rng.standard_normal(samples) * loud).astype(np.float32)


def reference(samples: Floats, bands: int) -> Floats:
    """What Whisper's own code computes, without its 30 s of silence at the end."""
    padded = torch.from_numpy(np.concatenate([samples, np.zeros(480_000, np.float32)]))
    window = torch.hann_window(WINDOW)
    spectrum = torch.stft(padded, WINDOW, HOP, window=window, return_complex=True)
    mel = torch.from_numpy(filters(bands)).T @ (spectrum[:, :-1].abs() ** 2)
    log = torch.clamp(mel, min=1e-10).log10()
    scaled: Floats = ((torch.maximum(log, log.max() - 8) + 4) / 4).T.numpy()
    return scaled[: len(samples) // HOP]


def filters(bands: int) -> Floats:
    bank = mel_filter_bank(201, bands, 0.0, 8000.0, 16_000, norm="slaney", mel_scale="slaney")
    return np.asarray(bank, np.float32)


@pytest.mark.parametrize("bands", [80, 128])
def test_filters_are_slaneys(bands: int) -> None:
    np.testing.assert_allclose(mel_filters(bands), filters(bands), atol=1e-8)


@pytest.mark.parametrize(("samples", "bands"), [(700_123, 80), (50_000, 128), (161, 80)])
def test_a_recording_is_seen_as_whisper_sees_it(samples: int, bands: int) -> None:
    given_sound = sound(samples)
    expected = reference(given_sound, bands)
    spectrogram = Spectrogram(bands)
    spectrogram.fill([given_sound[:100], given_sound[100:9_999], given_sound[9_999:]])
    assert spectrogram.frames == len(expected)
    size = min(3000, len(expected))
    window = spectrogram.window(len(expected) - size, size, 3000)
    np.testing.assert_allclose(window[:size], expected[-size:], atol=2e-4)
    assert not window[size:].any()
    spectrogram.close()


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 900), min_size=1, max_size=8), st.integers(0, 5))
def test_the_blocks_do_not_matter(lengths: list[int], seed: int) -> None:
    samples = sound(sum(lengths), seed)
    whole, parts = LogMel(80), LogMel(80)
    at_once = np.concatenate([whole.feed(samples), whole.finish()])
    borders = np.cumsum(lengths)[:-1]
    pieces = [parts.feed(piece) for piece in np.split(samples, borders)]
    np.testing.assert_allclose(np.concatenate([*pieces, parts.finish()]), at_once, atol=1e-4)
    assert len(at_once) >= len(samples) // HOP


def test_silence_is_found_and_takes_no_room() -> None:
    spectrogram = Spectrogram(80)
    spectrogram.fill([np.zeros(160_000, np.float32)] * 60)
    assert spectrogram.frames == 60_000
    assert spectrogram.is_silent(0, 60_000)
    assert (spectrogram.window(57_000, 3000, 3000) == (-8 + 4) / 4 - 0.5).all()
    spectrogram.close()


def test_silence_between_sounds_is_found() -> None:
    spectrogram = Spectrogram(80)
    still = np.zeros(160_000, np.float32)
    noise = np.random.default_rng(1).choice([-1, 0, 1], 160_000)
    dither = (noise / 32768).astype(np.float32)
    spectrogram.fill([sound(160_000), still, dither, sound(160_000)])
    assert not spectrogram.is_silent(0, 1000)
    assert spectrogram.is_silent(1002, 1900)
    assert not spectrogram.is_silent(1002, 2100)
    spectrogram.close()


def test_closing_ends_a_fill() -> None:
    spectrogram = Spectrogram(80)
    fed = 0

    def blocks() -> Iterator[Floats]:
        nonlocal fed
        while True:
            fed += 1
            if fed == 3:
                spectrogram.close()
            yield sound(16_000)

    spectrogram.fill(blocks())
    assert fed == 3
