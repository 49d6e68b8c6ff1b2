"""Events from the device to one waiting task, many at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Written and read on the event loop's thread. The reader gets all that has come since."""

    def __init__(self, join: Callable[[list[T], T], None] = list.append) -> None:
        """`join` adds an item to those that wait; it may leave out some that matter no more."""
        self._join = join
        self._items: list[T] = []
        self._ended = False
        self._error: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None

    def put(self, item: T) -> None:
        self._join(self._items, item)
        self._wake()

    def end(self, error: BaseException | None = None) -> None:
        """No more will come. The reader first gets what is left, then `error`, if any."""
        if not self._ended:
            self._ended, self._error = True, error
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def __aiter__(self) -> AsyncIterator[list[T]]:
        while True:
            if self._items:
                items, self._items = self._items, []
                yield items
            elif self._ended:
                if self._error is not None:
                    raise self._error
                return
            else:
                self._waiter = asyncio.get_running_loop().create_future()
                try:
                    await self._waiter
                finally:
                    self._waiter = None
