"""Which rows run together: near in length, and fair to every request. Pure."""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from mlxsrv.engines.batch_cost import row_cost

MAX_ROWS = 128
CANDIDATES = 256
"""Rows looked at for one batch, nearest in length first: enough to fill it well."""

OLDEST_TURN = 4
"""Every so many batches, the oldest request comes first."""


class Row(NamedTuple):
    """A row that waits, by its place in its request."""

    length: int
    request: int
    place: int


@dataclass(slots=True)
class _Request:
    """Rows ascend in length. `served` is the work done for it so far."""

    rows: list[Row]
    served: float = field(default=0.0)


class LengthBatcher:
    """Makes batches out of the rows of many requests.

    A batch is built around one row: the longest of the request that has had the least of the
    device, so that a short query does not wait behind a large request; every fourth time that
    of the oldest request, so that a large one does not wait for ever behind short queries: with
    its k rows it is done after at most 4k batches, once it is the oldest. Requests that have
    not had a slice's worth yet are batched among themselves.

    Rows of other lengths join where that saves work in all, which weighs padding against what
    a batch costs in itself. Where rows are packed without padding all join that have room, those
    of the request that has had the least first.
    """

    def __init__(self, *, max_tokens: int, packs: bool = False) -> None:
        """`max_tokens` bounds a batch, padding included, but for a single row."""
        self._max_tokens = max_tokens
        self._packs = packs
        self._requests: dict[int, _Request] = {}
        self._turn = 0

    @property
    def requests(self) -> int:
        return len(self._requests)

    @property
    def rows(self) -> int:
        return sum(len(request.rows) for request in self._requests.values())

    def add(self, request: int, lengths: Sequence[int]) -> None:
        """Queues the rows of a request, of which there is at least one."""
        rows = sorted(Row(length, request, place) for place, length in enumerate(lengths))
        self._requests[request] = _Request(rows)

    def discard(self, request: int) -> None:
        """Forgets what a request still waits for, if anything."""
        self._requests.pop(request, None)

    def next(self, room: float, overhead: float) -> list[Row]:
        """Takes the rows of the next batch, longest first; some must be waiting.

        `room` is the work that a slice has room for and `overhead` what a batch costs in
        itself, both as tokens; see `BatchCost`.
        """
        chosen = self._chosen()
        if self._packs:
            packed = self._packed(chosen, room)
            self._take(packed)
            return sorted(packed, reverse=True)
        rows = self._requests[chosen].rows
        near = self._near(rows[-1], self._rivals(chosen, room))
        lengths = [row.length for row in near]
        head = bisect_left(near, rows[-1])
        start, end = _window(lengths, head, room, overhead, self._max_tokens)
        batch = near[start:end]
        self._take(batch)
        return batch[::-1]

    def work(self, batch: Sequence[Row]) -> float:
        """What a batch costs beyond the overhead, as tokens."""
        if self._packs:
            return sum(row_cost(row.length) for row in batch)
        return len(batch) * row_cost(max(row.length for row in batch))

    def padding(self, batch: Sequence[Row]) -> int:
        """The tokens that a batch computes for nothing."""
        if self._packs:
            return 0
        return sum(batch[0].length - row.length for row in batch)

    def _packed(self, chosen: int, room: float) -> list[Row]:
        """As many rows as have room, from the longest one of each request downwards."""
        batch: list[Row] = []
        longest = 0
        for row in self._in_turn(chosen):
            longest = max(longest, row.length)
            room -= row_cost(row.length)
            if batch and (room < 0 or (len(batch) + 1) * longest > self._max_tokens):
                break
            batch.append(row)
            if len(batch) == MAX_ROWS:
                break
        return batch

    def _in_turn(self, chosen: int) -> Iterator[Row]:
        yield from reversed(self._requests[chosen].rows)
        for request in sorted(self._requests.keys() - {chosen}, key=self._served):
            yield from reversed(self._requests[request].rows)

    def _served(self, request: int) -> tuple[float, int]:
        return self._requests[request].served, request

    def _chosen(self) -> int:
        self._turn += 1
        if self._turn % OLDEST_TURN == 0:
            return next(iter(self._requests))
        return min(self._requests, key=lambda request: self._requests[request].served)

    def _rivals(self, chosen: int, room: float) -> Collection[_Request]:
        """The requests whose rows may share the batch."""
        requests = self._requests.values()
        if self._requests[chosen].served >= room:
            return requests
        return [request for request in requests if request.served < room]

    def _near(self, head: Row, requests: Collection[_Request]) -> list[Row]:
        """The rows nearest to `head` in length, itself among them, ascending."""
        found: list[Row] = []
        for request in requests:
            at = bisect_left(request.rows, head)
            found += request.rows[max(0, at - MAX_ROWS) : at + MAX_ROWS]
            if len(found) > 4 * CANDIDATES:
                break
        if len(found) > CANDIDATES:
            found = heapq.nsmallest(
                CANDIDATES, found, key=lambda row: abs(row.length - head.length)
            )
        return sorted({*found, head})

    def _take(self, batch: list[Row]) -> None:
        each = self.work(batch) / len(batch)
        for row in batch:
            request = self._requests[row.request]
            del request.rows[bisect_left(request.rows, row)]
            request.served += row_cost(row.length) if self._packs else each
            if not request.rows:
                del self._requests[row.request]


def _window(
    lengths: Sequence[int], head: int, room: float, overhead: float, max_tokens: int
) -> tuple[int, int]:
    """Where the batch around `head` begins and ends in the ascending `lengths`.

    A row is worth what its own tokens cost in the cheapest way to run all rows, and the batch
    that gains most on that is chosen.
    """
    costs = [row_cost(length) for length in lengths]
    most = [
        max(1, min(MAX_ROWS, int(room / cost), max_tokens // length))
        for length, cost in zip(lengths, costs, strict=True)
    ]
    worth = np.concatenate(([0.0], np.cumsum(costs)))
    price = _least_work(costs, most, overhead) / worth[-1]
    best, window = -np.inf, (head, head + 1)
    for end in range(head + 1, len(lengths) + 1):
        first = max(0, end - most[end - 1])
        if first > head:
            break
        starts = np.arange(first, head + 1)
        gains = price * (worth[end] - worth[starts]) - (end - starts) * costs[end - 1]
        place = int(gains.argmax())
        if gains[place] > best:
            best, window = gains[place], (first + place, end)
    return window


def _least_work(costs: Sequence[float], most: Sequence[int], overhead: float) -> float:
    """The work of all rows, cut into batches in the best way: a shortest path over them.

    `most` bounds the rows of a batch by its longest one.
    """
    least = np.zeros(len(costs) + 1)
    for end, (cost, rows) in enumerate(zip(costs, most, strict=True), 1):
        first = max(0, end - rows)
        sizes = np.arange(end - first, 0, -1)
        least[end] = (least[first:end] + sizes * cost).min() + overhead
    return float(least[-1])
