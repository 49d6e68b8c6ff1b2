"""FFmpeg, opened for files that nobody vouches for. Its own log is off: PyAV's default."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import mmap
from typing import TYPE_CHECKING

from mlxsrv.media import mp4_guard

if TYPE_CHECKING:
    from av.container import InputContainer

FORMATS = (
    "wav,w64,aiff,caf,au,flac,mp3,aac,ac3,eac3,ogg,matroska,amr,asf,avi,flv,mpeg,mpegts,wv,tta"
)
"""None that opens other files, as playlists and image series do."""

MP4 = "mov"

MAX_ALLOCATION_BYTES = 256 << 20
"""For one block of memory: headers may ask for sizes that their file does not have."""


def open_input(file: io.RawIOBase) -> InputContainer | None:
    """None where it is no file to read sound from, or one that is made to do harm.

    `file` is without a buffer, since FFmpeg reads from its descriptor. It may be closed at once.
    """
    import av

    formats = _formats(file)
    if formats is None:
        return None
    _limit_allocations()
    file.seek(0)
    try:
        return av.open(
            "fd:",
            mode="r",
            options={
                "fd": str(file.fileno()),
                "protocol_whitelist": "fd",
                "format_whitelist": formats,
                # Pictures are not decoded, not even to find out how large they are.
                "codec_whitelist": _sound_codecs(),
            },
            metadata_errors="replace",
        )
    except av.FFmpegError:
        return None


def _formats(file: io.RawIOBase) -> str | None:
    """MP4 only after a look at its headers, so that FFmpeg never meets a hostile one."""
    file.seek(0)
    if not mp4_guard.is_mp4(file.read(8)):
        return FORMATS
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return MP4 if mp4_guard.is_harmless(data) else None


@functools.cache
def _limit_allocations() -> None:
    import av

    # A library that hides FFmpeg's symbols goes without.
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(av.packet.__file__).av_max_alloc(ctypes.c_size_t(MAX_ALLOCATION_BYTES))


@functools.cache
def _sound_codecs() -> str:
    import av

    return ",".join(name for name in av.codecs_available if _is_sound(name))


def _is_sound(codec: str) -> bool:
    import av

    try:
        return av.Codec(codec).type == "audio"
    except av.codec.codec.UnknownCodecError:
        return False  # only an encoder has this name
