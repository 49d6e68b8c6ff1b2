"""Mono sound to the bytes of a file or a stream, as it comes.

Nothing goes back into what was written, so every format can be sent while it is made; where a
header has a place for the length, it says that it is not known.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from mlxsrv.core.errors import InvalidRequest
from mlxsrv.media.audio_coder import CODINGS, Coder
from mlxsrv.media.pcm import cleaned, float_to_s16

AudioFormat = Literal["wav", "mp3", "opus", "aac", "flac", "pcm_s16le", "pcm_f32le"]

UNKNOWN_BYTES = 0x7FFFF000
"""sox's sign for sound of unknown length: others take it for a length and stop at the end."""


class Encoder(Protocol):
    """One stream of sound. For one thread at a time."""

    @property
    def media_type(self) -> str: ...

    def encode(self, samples: NDArray[np.float32]) -> bytes:
        """The bytes that are ready after these samples `[n]`, any number of them; often none."""

    def finish(self) -> bytes:
        """The rest. Nothing may be encoded after it."""


def encoder_for(format: AudioFormat, rate: int) -> Encoder:
    """For samples of `rate` Hz, from 8,000 to 48,000. Raises InvalidRequest for the format."""
    match format:
        case "wav":
            return _Plain("audio/wav", _s16le, wav_header(rate, UNKNOWN_BYTES))
        case "pcm_s16le":
            return _Plain(_pcm_type(rate, "s16le"), _s16le)
        case "pcm_f32le":
            return _Plain(_pcm_type(rate, "f32le"), _f32le)
    if format not in CODINGS:
        known = ", ".join(get_args(AudioFormat))
        raise InvalidRequest(
            f"The audio format {format!r} is not one of {known}", param="response_format"
        )
    return Coder(CODINGS[format], rate)


def wav_bytes(samples: NDArray[np.float32], rate: int) -> bytes:
    """A complete WAV file of `[n]` samples, 16 bits each."""
    body = _s16le(samples)
    return wav_header(rate, len(body)) + body


def wav_header(rate: int, data_bytes: int) -> bytes:
    """For 16-bit mono; the layout is that of Microsoft's RIFF WAVE, 44 bytes."""
    pcm, channels, frame_bytes, bits = 1, 1, 2, 16
    layout = pcm, channels, rate, rate * frame_bytes, frame_bytes, bits
    chunks = struct.pack("<4sIHHIIHH4sI", b"fmt ", 16, *layout, b"data", data_bytes)
    return struct.pack("<4sI4s", b"RIFF", 4 + len(chunks) + data_bytes, b"WAVE") + chunks


class _Plain:
    """Samples one after the other, behind a header or none."""

    def __init__(
        self, media_type: str, pack: Callable[[NDArray[np.float32]], bytes], header: bytes = b""
    ) -> None:
        self.media_type = media_type
        self._pack = pack
        self._header = header

    def encode(self, samples: NDArray[np.float32]) -> bytes:
        return self.finish() + self._pack(samples)

    def finish(self) -> bytes:
        header, self._header = self._header, b""
        return header


def _s16le(samples: NDArray[np.float32]) -> bytes:
    return float_to_s16(samples).tobytes()


def _f32le(samples: NDArray[np.float32]) -> bytes:
    return cleaned(samples).astype("<f4").tobytes()


def _pcm_type(rate: int, encoding: str) -> str:
    return f"audio/pcm; rate={rate}; channels=1; encoding={encoding}"
