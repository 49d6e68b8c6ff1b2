"""Sounds to decode and encode, and how alike two of them are."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile
from numpy.typing import NDArray

Samples = NDArray[np.float32]


def chirp(seconds: float, rate: int, *, low: float = 200, high: float = 380) -> Samples:
    """A tone that rises all the time, so that no part of it is like another."""
    t = np.arange(round(seconds * rate)) / rate
    sweep = low * t + (high - low) * t**2 / (2 * seconds)
    return (0.5 * np.sin(2 * np.pi * sweep)).astype(np.float32)


def likeness(heard: Samples, meant: Samples) -> float:
    """The correlation where it is best, whatever a codec put before the sound: 1 is the same."""
    size = len(heard) + len(meant)
    spectrum = np.fft.rfft(heard, size) * np.conj(np.fft.rfft(meant, size))
    lag = int(np.argmax(np.fft.irfft(spectrum, size)))
    late, early = (lag, 0) if lag < len(heard) else (0, size - lag)
    both = min(len(heard) - late, len(meant) - early)
    return float(np.corrcoef(heard[late : late + both], meant[early : early + both])[0, 1])


def write(path: Path, samples: NDArray[Any], rate: int, subtype: str, format: str = "") -> Path:
    """By libsndfile; `samples` are `[n]` or `[n, channels]`."""
    soundfile.write(path, samples, rate, subtype=subtype, format=format or None)
    return path


def write_coded(
    path: Path,
    samples: Samples,
    rate: int,
    codec: str,
    *,
    layout: str = "mono",
    options: dict[str, str] | None = None,
    format: str | None = None,
    muxing: dict[str, str] | None = None,
) -> Path:
    """By FFmpeg, which takes the container from the name; every channel gets `samples`.

    `options` are the codec's, `muxing` the container's.
    """
    with av.open(str(path), "w", format=format, container_options=muxing) as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        assert isinstance(stream, av.AudioStream)
        stream.codec_context.layout = layout
        channels = av.AudioLayout(layout).nb_channels
        packed = np.repeat(np.rint(samples * 32767).astype(np.int16), channels)[None]
        frame = av.AudioFrame.from_ndarray(packed, "s16", layout)
        frame.sample_rate = rate
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_video(path: Path, samples: Samples, rate: int) -> Path:
    """Some pictures, and the sound as AAC."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=10)
        sound = container.add_stream("aac", rate=rate)
        assert isinstance(video, av.VideoStream)
        assert isinstance(sound, av.AudioStream)
        sound.codec_context.layout = "mono"
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for shade in range(10):
            picture = np.full((48, 64, 3), 20 * shade, np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        frame = av.AudioFrame.from_ndarray(samples[None], "fltp", "mono")
        frame.sample_rate = rate
        container.mux(sound.encode(frame))
        container.mux(video.encode(None))
        container.mux(sound.encode(None))
    return path


def joined(path: Path, *parts: Path) -> Path:
    with path.open("wb") as whole:
        for part in parts:
            with part.open("rb") as source:
                shutil.copyfileobj(source, whole)
    return path
