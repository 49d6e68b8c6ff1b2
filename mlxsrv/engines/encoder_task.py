"""One request's rows on their way through an encoder."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from mlxsrv.core.encoding import TokenRow

Values = NDArray[np.float32]


class EncoderTask:
    """Used on the event loop's thread; other threads only read `uid` and `rows`.

    A row that is given twice stands in `rows` once.
    """

    def __init__(
        self, uid: int, rows: Sequence[TokenRow], cancel: Callable[[EncoderTask], None]
    ) -> None:
        places: dict[TokenRow, int] = {}
        self._places = [places.setdefault(row, len(places)) for row in rows]
        self.uid = uid
        self.rows = list(places)
        self.tokens = sum(len(row.ids) for row in self.rows)
        self._cancel = cancel
        self._left = len(self.rows)
        self._values: Values | None = None
        self._error: BaseException | None = None
        self._ended = asyncio.Event()

    async def result(self) -> Values:
        """What the model made of each row that was given. Raises what went wrong."""
        await self._ended.wait()
        if self._error is not None:
            raise self._error
        assert self._values is not None
        return self._values if len(self.rows) == len(self._places) else self._values[self._places]

    @property
    def ended(self) -> bool:
        return self._ended.is_set()

    def cancel(self) -> None:
        """Its rows leave before the next batch; does nothing once it has ended."""
        if not self.ended:
            self.fail(asyncio.CancelledError())
            self._cancel(self)

    def accept(self, places: Sequence[int], values: Values) -> None:
        """The results of the rows at `places`."""
        if self.ended:
            return
        if self._values is None:
            self._values = np.empty((len(self.rows), *values.shape[1:]), np.float32)
        self._values[places] = values
        self._left -= len(places)
        if self._left == 0:
            self._ended.set()

    def fail(self, error: BaseException) -> None:
        if not self.ended:
            self._error = error
            self._ended.set()
