"""One request's transcript on its way to its reader."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from mlxsrv.core.transcription import TranscriptionUpdate
from mlxsrv.engines.mailbox import Mailbox


class TranscriptionStream:
    """A transcript's updates, in order, for one reader. Cancel it when done early.

    `started` once it has its turn, for which it may have waited.
    """

    def __init__(self, cancel: Callable[[TranscriptionStream], None]) -> None:
        self.mailbox: Mailbox[TranscriptionUpdate] = Mailbox()
        self.live = True
        self.started = False
        self._cancel = cancel

    def __aiter__(self) -> AsyncIterator[list[TranscriptionUpdate]]:
        return self.mailbox.__aiter__()

    def cancel(self) -> None:
        """Frees what the request holds before the next slice; nothing once it has ended."""
        if self.live:
            self.live = False
            self._cancel(self)

    def end(self, error: BaseException | None = None) -> None:
        self.live = False
        self.mailbox.end(error)
