"""One request's pictures on their way to its reader."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from mlxsrv.core.image import ImageUpdate
from mlxsrv.engines.mailbox import Mailbox
from mlxsrv.engines.requests import RequestStream

MOST_PREVIEWS = 4
"""That wait for a reader; with more, the oldest is of no use any more."""


class ImageStream(RequestStream[ImageUpdate]):
    """Updates, in order."""

    def __init__(self, cancel: Callable[[ImageStream], None]) -> None:
        super().__init__(cancel, Mailbox(join))

    def __aiter__(self) -> AsyncIterator[list[ImageUpdate]]:
        return self.mailbox.__aiter__()


def join(waiting: list[ImageUpdate], update: ImageUpdate) -> None:
    """Adds an update to those that wait for a slow reader. Pictures are never left out; of mere
    progress the newest is kept, and so are the last previews."""
    if waiting and _is_progress(waiting[-1]):
        waiting.pop()
    waiting.append(update)
    previews = [one for one in waiting if one.preview is not None and one.picture is None]
    if len(previews) > MOST_PREVIEWS:
        waiting[:] = [one for one in waiting if one is not previews[0]]


def _is_progress(update: ImageUpdate) -> bool:
    return update.preview is None and update.picture is None
