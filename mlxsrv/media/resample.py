"""Changing the sample rate of a stream of mono blocks, without a seam between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mlxsrv.media.pcm import cleaned

if TYPE_CHECKING:
    import soxr


class Resampler:
    """Takes blocks of any rate, which may change on the way, and gives them at one rate.

    A block comes out late by the filter's length (some milliseconds); `finish` gives the rest.
    """

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self._from = rate
        self._stream: soxr.ResampleStream | None = None

    def feed(self, samples: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
        """What is ready after these samples of `rate` Hz."""
        if rate == self._from:
            return self._process(samples)
        rest = self.finish()
        self._start(rate)
        return np.concatenate([rest, self._process(samples)])

    def finish(self) -> NDArray[np.float32]:
        """What the filter still holds; after it the stream may go on."""
        rest = self._process(np.zeros(0, np.float32), last=True)
        self._start(self._from)
        return rest

    def _start(self, rate: int) -> None:
        self._from = rate
        self._stream = None
        if rate != self.rate:
            import soxr

            self._stream = soxr.ResampleStream(rate, self.rate, 1, "float32", "HQ")

    def _process(self, samples: NDArray[np.float32], *, last: bool = False) -> NDArray[np.float32]:
        if self._stream is None:
            return samples
        # The filter overshoots at the edges of loud sound.
        return cleaned(self._stream.resample_chunk(samples, last=last))
