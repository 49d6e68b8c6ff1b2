"""One request's transcript on its way to its reader."""

from __future__ import annotations

from collections.abc import AsyncIterator

from mlxsrv.core.transcription import TranscriptionUpdate
from mlxsrv.engines.requests import RequestStream


class TranscriptionStream(RequestStream[TranscriptionUpdate]):
    """A transcript's updates, in order."""

    def __aiter__(self) -> AsyncIterator[list[TranscriptionUpdate]]:
        return self.mailbox.__aiter__()
