"""The formats that compress, through FFmpeg's encoders and containers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from mlxsrv.media.pcm import cleaned, float_to_s16
from mlxsrv.media.resample import Resampler

if TYPE_CHECKING:
    from av import AudioFrame, AudioStream
    from av.container import OutputContainer

MPEG_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)


@dataclass(frozen=True, slots=True)
class Coding:
    """`container` and `codec` are FFmpeg's names; no `rates`: any."""

    media_type: str
    container: str
    codec: str
    samples: Literal["s16", "flt", "fltp"]
    rates: tuple[int, ...] = ()
    bit_rate: int | None = None
    options: dict[str, str] = field(default_factory=dict)

    def rate_for(self, rate: int) -> int:
        """The same, or the next higher one that keeps all of the sound."""
        return min((r for r in self.rates if r >= rate), default=max(self.rates, default=rate))


CODINGS = {
    # Without the frame that tells the length: it could only be written at the end.
    "mp3": Coding(
        "audio/mpeg",
        "mp3",
        "libmp3lame",
        "fltp",
        MPEG_RATES,
        96_000,
        {"write_xing": "0", "id3v2_version": "0"},
    ),
    # Pages of 0.1 seconds, in place of one: what has been said is heard at once.
    "opus": Coding(
        "audio/ogg; codecs=opus",
        "ogg",
        "libopus",
        "flt",
        (8_000, 12_000, 16_000, 24_000, 48_000),
        48_000,
        {"page_duration": "100000"},
    ),
    "aac": Coding("audio/aac", "adts", "aac", "fltp", MPEG_RATES, 96_000),
    "flac": Coding("audio/flac", "flac", "flac", "s16", options={"metadata_header_padding": "0"}),
}


class Coder:
    """An `Encoder` of a coding, for samples of `rate` Hz."""

    def __init__(self, coding: Coding, rate: int) -> None:
        self.media_type = coding.media_type
        self._coding = coding
        self._rate = rate
        self._resampler = Resampler(coding.rate_for(rate))
        self._sink = _Sink()
        self._container, self._stream = self._open()

    def encode(self, samples: NDArray[np.float32]) -> bytes:
        self._write(self._resampler.feed(cleaned(samples), self._rate))
        return self._sink.take()

    def finish(self) -> bytes:
        self._write(self._resampler.finish())
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._sink.take()

    def _open(self) -> tuple[OutputContainer, AudioStream]:
        import av

        coding = self._coding
        container = av.open(
            self._sink,
            mode="w",
            format=coding.container,
            # Exact: the same sound makes the same bytes, where Ogg would draw a random number.
            container_options={"flush_packets": "1", "fflags": "bitexact", **coding.options},
        )
        stream = container.add_stream(coding.codec, rate=self._resampler.rate)
        assert isinstance(stream, av.AudioStream)
        stream.codec_context.layout = "mono"
        stream.codec_context.format = coding.samples
        if coding.bit_rate:
            stream.bit_rate = coding.bit_rate
        return container, stream

    def _write(self, samples: NDArray[np.float32]) -> None:
        if len(samples):
            self._container.mux(self._stream.encode(self._frame(samples)))

    def _frame(self, samples: NDArray[np.float32]) -> AudioFrame:
        import av

        form = self._coding.samples
        values = float_to_s16(samples) if form == "s16" else samples
        frame = av.AudioFrame.from_ndarray(values[None], form, "mono")
        frame.sample_rate = self._resampler.rate
        return frame


class _Sink:
    """What FFmpeg writes to: it can't go back, and is emptied after each block."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, part: bytes) -> int:
        self._parts.append(part)
        return len(part)

    def take(self) -> bytes:
        whole = b"".join(self._parts)
        self._parts.clear()
        return whole
