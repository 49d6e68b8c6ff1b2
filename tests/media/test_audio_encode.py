from __future__ import annotations

import io
import wave
from typing import get_args

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxsrv.core.errors import InvalidRequest
from mlxsrv.media.audio_decode import read_voice
from mlxsrv.media.audio_encode import AudioFormat, encoder_for, wav_bytes
from mlxsrv.media.pcm import float_to_s16
from tests.media.sounds import Samples, chirp, likeness

FORMATS = get_args(AudioFormat)
FILES = ["wav", "mp3", "opus", "aac", "flac"]
RATES = [8_000, 16_000, 22_050, 24_000, 44_100, 48_000]
MOST_SECONDS_ADDED = {"wav": 0.0, "flac": 0.0, "opus": 0.01, "mp3": 0.2, "aac": 0.2}


def encoded(format: AudioFormat, rate: int, *parts: Samples) -> bytes:
    encoder = encoder_for(format, rate)
    return b"".join([*map(encoder.encode, parts), encoder.finish()])


def decoded(content: bytes, rate: int) -> Samples:
    return read_voice(content, rate=rate, max_seconds=60, param="file")


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("format", FILES)
def test_what_goes_in_comes_out(format: AudioFormat, rate: int) -> None:
    sound = chirp(2, rate)
    heard = decoded(encoded(format, rate, sound), rate)
    assert likeness(heard, sound) > 0.999
    assert 0 <= len(heard) / rate - 2 <= MOST_SECONDS_ADDED[format]


@pytest.mark.parametrize("format", ["wav", "mp3", "opus"])
def test_another_library_reads_it(format: AudioFormat) -> None:
    """libsndfile; it knows no AAC, and of FLAC it wants to know the length."""
    sound = chirp(2, 24_000)
    with soundfile.SoundFile(io.BytesIO(encoded(format, 24_000, sound))) as file:
        heard = file.read(3 * 24_000, dtype="float32")
        assert (file.channels, file.samplerate) == (1, 24_000)
        assert 0 <= len(heard) / 24_000 - 2 <= MOST_SECONDS_ADDED[format]
        assert likeness(heard, sound) > 0.999


@settings(max_examples=20)
@given(format=st.sampled_from(FORMATS), cuts=st.lists(st.integers(0, 12_000), max_size=30))
def test_blocks_of_any_size_make_the_same_file(format: AudioFormat, cuts: list[int]) -> None:
    sound = chirp(12_000 / 22_050, 22_050)
    parts = np.split(sound, sorted(cuts))
    assert encoded(format, 22_050, *parts) == encoded(format, 22_050, sound)


@pytest.mark.parametrize("format", FILES)
def test_the_last_moment_is_there(format: AudioFormat) -> None:
    sound = np.zeros(24_000, np.float32)
    sound[-480:] = chirp(0.02, 24_000, low=900, high=1000)
    heard = decoded(encoded(format, 24_000, sound), 24_000)
    assert np.abs(heard[23_500:]).max() > 0.3


@pytest.mark.parametrize("format", FORMATS)
def test_the_first_bytes_come_early(format: AudioFormat) -> None:
    encoder = encoder_for(format, 24_000)
    sound = chirp(2, 24_000)
    early = [encoder.encode(block) for block in np.split(sound, 20)]
    assert any(early[:3])
    if format not in {"pcm_s16le", "pcm_f32le"}:
        assert len(decoded(b"".join(early[:5]), 24_000)) > 0.2 * 24_000


@pytest.mark.parametrize("format", ["wav", "flac", "pcm_s16le"])
def test_16_bits_lose_nothing(format: AudioFormat) -> None:
    values = float_to_s16(chirp(0.5, 24_000))
    content = encoded(format, 24_000, (values / np.float32(32768)).astype(np.float32))
    if format == "pcm_s16le":
        assert np.array_equal(np.frombuffer(content, "<i2"), values)
    else:
        assert np.array_equal(float_to_s16(decoded(content, 24_000)), values)


def test_raw_floats_are_the_samples() -> None:
    sound = chirp(0.1, 24_000)
    assert np.array_equal(np.frombuffer(encoded("pcm_f32le", 24_000, sound), "<f4"), sound)


@pytest.mark.parametrize("format", FILES)
def test_wild_samples_do_not_wrap(format: AudioFormat) -> None:
    sound = 3 * chirp(1, 24_000)
    sound[[200, 300, 400]] = np.nan, np.inf, -np.inf
    assert likeness(decoded(encoded(format, 24_000, sound), 24_000), chirp(1, 24_000)) > 0.9


def test_wild_raw_samples_do_not_wrap() -> None:
    wild = np.array([np.nan, 5, np.inf, -5, -np.inf], np.float32)
    floats = np.frombuffer(encoded("pcm_f32le", 24_000, wild), "<f4")
    assert floats.tolist() == [0, 1, 0, -1, 0]
    integers = np.frombuffer(encoded("pcm_s16le", 24_000, wild), "<i2")
    assert integers.tolist() == [0, 32767, 0, -32768, 0]


def test_a_wav_that_is_sent_while_it_is_made_is_read_to_its_end() -> None:
    content = encoded("wav", 24_000, chirp(1, 24_000))
    with wave.open(io.BytesIO(content)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (24_000, 1, 2)
        assert len(file.readframes(file.getnframes())) == 48_000


def test_a_whole_wav_says_how_long_it_is() -> None:
    content = wav_bytes(chirp(1, 22_050), 22_050)
    with wave.open(io.BytesIO(content)) as file:
        assert file.getnframes() == 22_050
    assert int.from_bytes(content[4:8], "little") == len(content) - 8


@pytest.mark.parametrize("format", FORMATS)
def test_one_sample_and_none(format: AudioFormat) -> None:
    assert len(encoded(format, 24_000, np.ones(1, np.float32))) > 0
    header_only = {"wav": 44, "flac": 42}
    empty = encoded(format, 24_000, np.zeros(0, np.float32))
    assert len(empty) >= header_only.get(format, 0)
    assert encoder_for(format, 24_000).finish() == empty


def test_the_media_type_says_what_it_is() -> None:
    assert encoder_for("mp3", 24_000).media_type == "audio/mpeg"
    assert encoder_for("opus", 24_000).media_type == "audio/ogg; codecs=opus"
    assert (
        encoder_for("pcm_s16le", 22_050).media_type
        == "audio/pcm; rate=22050; channels=1; encoding=s16le"
    )


def test_a_format_that_is_not_known() -> None:
    with pytest.raises(InvalidRequest, match="'midi' is not one of wav, mp3") as caught:
        encoder_for("midi", 24_000)  # type: ignore[arg-type]
    assert caught.value.param == "response_format"


def test_many_may_be_given_up_half_way(capfd: pytest.CaptureFixture[str]) -> None:
    for format in FORMATS:
        for _ in range(20):
            encoder_for(format, 24_000).encode(chirp(0.2, 24_000))
    assert capfd.readouterr() == ("", "")
