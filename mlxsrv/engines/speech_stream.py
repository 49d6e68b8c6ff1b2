"""One request's sound on its way to its reader."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import numpy as np
from numpy.typing import NDArray

from mlxsrv.engines.requests import RequestStream


class SpeechStream(RequestStream[NDArray[np.float32]]):
    """Blocks of mono samples, in order.

    Lengths are in samples: `made` is written by the device thread, `taken` by the event loop's,
    and what lies between waits for its reader.
    """

    def __init__(
        self,
        cancel: Callable[[SpeechStream], None],
        on_taken: Callable[[], None],
    ) -> None:
        super().__init__(cancel)
        self.made = 0
        self.taken = 0
        self._on_taken = on_taken

    @property
    def ahead(self) -> int:
        """Made, and not yet taken."""
        return self.made - self.taken

    async def __aiter__(self) -> AsyncIterator[NDArray[np.float32]]:
        """All that has come since; it counts as taken when the next is asked for."""
        async for blocks in self.mailbox:
            samples = np.concatenate(blocks)
            yield samples
            self.taken += len(samples)
            if self.live:
                self._on_taken()
