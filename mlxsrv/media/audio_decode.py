"""Any sound file, or a video's sound, as blocks of mono float32 at the rate that is wanted.

Memory stays bounded whatever the file says or holds.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from mlxsrv.core.errors import InvalidRequest
from mlxsrv.media.ffmpeg import open_input
from mlxsrv.media.pcm import SCALES, cleaned, to_mono
from mlxsrv.media.resample import Resampler

if TYPE_CHECKING:
    from av import AudioFrame, AudioStream
    from av.container import InputContainer
    from av.packet import Packet

Source = Path | bytes | io.RawIOBase
"""An open file is closed when it has been read."""

MAX_SECONDS = 24 * 3600.0

BLOCK_SECONDS = 10

PIECE_SECONDS = 8
"""Decoded at a time: less than a block, which also gets what the resampler held back."""

RATES = range(1_000, 1_000_001)

UNREADABLE = (
    "This is not audio or video that can be read (wav, mp3, flac, ogg, opus, m4a, aac, webm, …), "
    "or it is damaged"
)

MAX_DAMAGED = 5_000
"""Packets in a row that can't be decoded before the rest is given up: some two minutes."""


def decode(
    source: Source,
    *,
    rate: int,
    max_seconds: float | None = MAX_SECONDS,
    param: str = "file",
) -> Iterator[NDArray[np.float32]]:
    """Blocks of at most BLOCK_SECONDS, one after the other without a seam, each `[n]`, n > 0.

    Closing the iterator releases everything. A file that is cut off or damaged gives what can be
    read of it. Raises InvalidRequest that names `param` where that is nothing, and where there is
    more than `max_seconds` of it; OSError for a path.
    """
    with open_audio(source, param=param) as audio:
        yield from audio.blocks(rate, max_seconds)


def read_voice(
    source: Path | bytes, *, rate: int, max_seconds: float, param: str
) -> NDArray[np.float32]:
    """A whole short recording: `[n]`. Raises as `decode` does."""
    return np.concatenate(list(decode(source, rate=rate, max_seconds=max_seconds, param=param)))


def open_audio(source: Source, *, param: str = "file") -> AudioFile:
    """Raises InvalidRequest where there is no sound to decode; OSError for a path."""
    from av import AudioStream

    with _file(source) as file:
        if not file.read(1):
            raise InvalidRequest("The audio is empty: 0 bytes", param=param)
        container = open_input(file)
    if container is None:
        raise InvalidRequest(UNREADABLE, param=param)
    stream = container.streams.best("audio")
    if isinstance(stream, AudioStream):
        return AudioFile(container, stream, param)
    container.close()
    raise InvalidRequest("There is no sound here, or none that can be decoded", param=param)


class AudioFile:
    """An open file's best sound stream. For one thread at a time; made by `open_audio`."""

    def __init__(self, container: InputContainer, stream: AudioStream, param: str) -> None:
        self._container = container
        self._stream = stream
        self._param = param
        duration = container.duration
        self.duration_hint = duration / 1e6 if duration and duration > 0 else None
        """Seconds, as the file says or its size suggests; not to be relied on."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._container.close()

    def blocks(
        self, rate: int, max_seconds: float | None = MAX_SECONDS
    ) -> Iterator[NDArray[np.float32]]:
        """See `decode`. Only once: the file is read from where it stands."""
        limit = float("inf") if max_seconds is None else max_seconds
        self._check_length(self.duration_hint or 0.0, limit)
        nothing = True
        for samples in self._resampled(rate, limit):
            for start in range(0, len(samples), BLOCK_SECONDS * rate):
                nothing = False
                yield samples[start : start + BLOCK_SECONDS * rate]
        if nothing:
            raise self._refusal("The audio is empty, or too damaged to be decoded")

    def _resampled(self, rate: int, limit: float) -> Iterator[NDArray[np.float32]]:
        resampler = Resampler(rate)
        heard = 0.0
        for samples, own_rate in self._pieces():
            heard += len(samples) / own_rate
            self._check_length(heard, limit)
            yield resampler.feed(cleaned(samples), own_rate)
        yield resampler.finish()

    def _pieces(self) -> Iterator[tuple[NDArray[np.float32], int]]:
        """Mono sound of some seconds at the file's own rate, and that rate in Hz."""
        parts: list[NDArray[np.float32]] = []
        rate, length = 0, 0
        for frame in self._frames():
            if parts and (frame.sample_rate != rate or length >= PIECE_SECONDS * rate):
                yield np.concatenate(parts), rate
                parts, length = [], 0
            rate = frame.sample_rate
            parts.append(self._mono(frame))
            length += frame.samples
        if parts:
            yield np.concatenate(parts), rate

    def _mono(self, frame: AudioFrame) -> NDArray[np.float32]:
        kind = frame.format.packed.name
        if kind not in SCALES:
            raise self._refusal(f"Samples of the form {kind} can't be read")
        if frame.sample_rate not in RATES:
            raise self._refusal(
                f"A sample rate of {frame.sample_rate} Hz is outside {RATES[0]} to {RATES[-1]}"
            )
        return to_mono(_samples(frame), frame.layout.nb_channels, kind)

    def _frames(self) -> Iterator[AudioFrame]:
        damaged = 0
        for packet in self._packets():
            frames = _decoded(packet)
            damaged = damaged + 1 if frames is None else 0
            if damaged > MAX_DAMAGED:
                return
            yield from (frame for frame in frames or () if frame.samples)

    def _packets(self) -> Iterator[Packet[AudioStream]]:
        import av

        try:
            yield from self._container.demux(self._stream)
        except av.FFmpegError:
            return  # the file is cut off or damaged here
        except IndexError:
            return  # at its end: PyAV does not know streams that began in its middle

    def _check_length(self, seconds: float, limit: float) -> None:
        if seconds > limit:
            raise self._refusal(f"The audio is longer than {limit:g} seconds")

    def _refusal(self, message: str) -> InvalidRequest:
        return InvalidRequest(message, param=self._param)


def _file(source: Source) -> io.RawIOBase:
    if isinstance(source, io.RawIOBase):
        source.seek(0)
        return source
    if isinstance(source, Path):
        return source.open("rb", buffering=0)
    file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  (the caller closes it)
    file.write(source)
    file.seek(0)
    return file


def _decoded(packet: Packet[AudioStream]) -> list[AudioFrame] | None:
    """None where the packet is damaged."""
    import av

    try:
        return packet.decode()
    except av.FFmpegError:
        return None


def _samples(frame: AudioFrame) -> NDArray[np.generic]:
    from av import AudioResampler

    # PyAV looks for the end of the planes beyond it where FFmpeg's table of eight is full.
    if frame.format.is_planar and frame.layout.nb_channels >= 8:
        (frame,) = AudioResampler(format=frame.format.packed).resample(frame)
    return frame.to_ndarray()
