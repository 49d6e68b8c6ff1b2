"""A recording's log-mel frames, kept in a temporary file: an hour takes 115 MB of it.

The model wants them relative to the loudest of the whole recording, which is known at its end,
so they can't be made window by window.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from mlxsrv.engines.whisper.mel import HOP, RATE, SILENCE, LogMel
from mlxsrv.engines.whisper.silence import RANGE, floor_of, is_silent

Floats = NDArray[np.float32]


class Spectrogram:
    """Filled by one thread, then read by another; `close` may come from any, at any time."""

    def __init__(self, bands: int) -> None:
        self.bands = bands
        self.samples = 0
        self._peaks = np.zeros(0, np.float32)
        self._loudest = SILENCE
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  (`close` closes it)
        self._lock = threading.Lock()

    def close(self) -> None:
        """Frees the file; a `fill` that is at work ends."""
        with self._lock:
            self._file.close()

    @property
    def frames(self) -> int:
        return self.samples // HOP

    @property
    def duration(self) -> float:
        """In seconds."""
        return self.samples / RATE

    def fill(self, blocks: Iterable[Floats]) -> None:
        """Takes in a whole recording, in blocks of samples at RATE."""
        mel = LogMel(self.bands)
        peaks: list[Floats] = []
        for block in blocks:
            self.samples += len(block)
            if not self._append(mel.feed(block), peaks):
                return
        self._append(mel.finish(), peaks)
        self._peaks = np.concatenate(peaks)
        self._loudest = float(self._peaks.max(initial=SILENCE))

    def _append(self, frames: Floats, peaks: list[Floats]) -> bool:
        """False once this is closed."""
        highest = frames.max(axis=1, initial=SILENCE)
        peaks.append(highest)
        with self._lock:
            if self._file.closed:
                return False
            if (highest > SILENCE).any():
                self._file.write(frames.data)
            else:  # a hole in the file takes no room
                self._file.seek(frames.nbytes, 1)
        return True

    def is_silent(self, seek: int, size: int) -> bool:
        """Whether there is nothing to hear in `size` frames from `seek` on."""
        return is_silent(self._peaks[seek : seek + size], floor_of(self._loudest))

    def window(self, seek: int, size: int, length: int) -> Floats:
        """`size` frames from `seek` on as the model takes them, and zeros up to `length`.

        [length, bands], as Whisper scales them: nothing lies more than RANGE below the loudest.
        """
        row = self.bands * 4
        self._file.seek(seek * row)
        stored = np.frombuffer(self._file.read(size * row).ljust(size * row, b"\0"), np.float32)
        found = stored.reshape(size, self.bands).copy()
        found[self._peaks[seek : seek + size] <= SILENCE] = SILENCE
        scaled = (np.maximum(found, np.float32(self._loudest - RANGE)) + 4) / 4
        padded = np.zeros((length, self.bands), np.float32)
        padded[:size] = scaled
        return padded
