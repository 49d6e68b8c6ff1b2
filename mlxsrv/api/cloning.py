"""The recordings that come with requests to be spoken in other people's voices."""

from __future__ import annotations

import asyncio
import base64
import binascii
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlxsrv.api.schemas.speech import SpeechBody
from mlxsrv.core.errors import InvalidRequest
from mlxsrv.core.speech import LONGEST_VOICE_SECONDS
from mlxsrv.media.audio_decode import read_voice
from mlxsrv.media.resample import Resampler

RATE = 24_000
"""Hz that recordings are read at before it is known which model hears them."""


async def recording(body: SpeechBody, folder: Path | None) -> NDArray[np.float32] | None:
    """The voice to clone, at RATE: from the body, or from a file below `folder`.

    None where no voice is given. Raises InvalidRequest.
    """
    if body.voice_data is not None:
        return await asyncio.to_thread(_from_text, body.voice_data)
    if body.voice_path is not None:
        return await asyncio.to_thread(_from_file, body.voice_path, folder)
    return None


def at_rate(samples: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """A recording of RATE at another rate."""
    resampler = Resampler(rate)
    return np.concatenate([resampler.feed(samples, RATE), resampler.finish()])


def _from_text(text: str) -> NDArray[np.float32]:
    """The text may be a data URL."""
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        source = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest("voice_data: is not base64", param="voice_data") from None
    return _read(source, "voice_data")


def _from_file(path: str, folder: Path | None) -> NDArray[np.float32]:
    """Messages name no folder: callers need not know where it is."""
    if folder is None:
        raise _refusal(
            "this server has no folder for voices (--voices-dir): send the recording as voice_data"
        )
    root = folder.resolve()
    try:
        file = (root / path).resolve()
        inside = file.is_relative_to(root)
        found = inside and file.is_file()
    except (OSError, RuntimeError, ValueError):
        raise _refusal("is not a path") from None
    if not inside:
        raise _refusal("leads out of the folder for voices")
    if not found:
        raise _refusal("there is no such file in the folder for voices")
    try:
        return _read(file, "voice_path")
    except OSError:
        raise _refusal("the file can't be read") from None


def _read(source: Path | bytes, param: str) -> NDArray[np.float32]:
    try:
        return read_voice(source, rate=RATE, max_seconds=LONGEST_VOICE_SECONDS, param=param)
    except InvalidRequest as error:
        raise InvalidRequest(f"{param}: {error.message}", param=param) from error


def _refusal(reason: str) -> InvalidRequest:
    return InvalidRequest(f"voice_path: {reason}", param="voice_path")
