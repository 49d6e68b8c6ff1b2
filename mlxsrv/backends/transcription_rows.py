"""Which rows a step feeds: the order and the bookkeeping that both backends share.

Rows lie one behind the other, as their caches do: one that leaves is filled from the end.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from collections.abc import Sequence as Several
from dataclasses import dataclass
from itertools import groupby
from typing import Generic, TypeVar

from mlxsrv.core.errors import InvalidRequest

W = TypeVar("W")

TOKENS_AT_ONCE = 512
"""Of prompts, in one step: so many take no longer to feed than a slice may last."""


@dataclass(slots=True)
class Row(Generic[W]):
    """A row's tokens, and how many of them its cache holds."""

    uid: int
    window: W
    tokens: list[int]
    fed: int = 0

    @property
    def waiting(self) -> int:
        return len(self.tokens) - self.fed


@dataclass(frozen=True, slots=True)
class Block(Generic[W]):
    """Neighbouring rows, from `first` on, that are fed the same number of tokens together.

    `windows` says how many of them, one behind the other, look at the same window.
    """

    first: int
    uids: tuple[int, ...]
    tokens: tuple[tuple[int, ...], ...]
    starts: tuple[int, ...]
    windows: tuple[tuple[W, int], ...]

    @property
    def end(self) -> int:
        return self.first + len(self.uids)

    @property
    def width(self) -> int:
        return len(self.tokens[0])

    @property
    def length(self) -> int:
        """Of the longest row, when the block has been fed."""
        return max(self.starts) + self.width

    @property
    def start(self) -> int | None:
        """Where all rows begin, if it is the same place."""
        return self.starts[0] if len(set(self.starts)) == 1 else None


class RowTable(Generic[W]):
    """The rows of a batch. Raises InvalidRequest for tokens that no model could take."""

    def __init__(self, *, vocab_size: int, longest: int) -> None:
        self._vocab_size = vocab_size
        self._longest = longest
        self._rows: list[Row[W]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def insert(self, uid: int, window: W, tokens: Several[int]) -> None:
        self.require_valid(tokens)
        self._rows.append(Row(uid, window, list(tokens)))

    def extend(self, uid: int, token: int) -> None:
        row = next(row for row in self._rows if row.uid == uid)
        self.require_valid([token], beside=len(row.tokens))
        row.tokens.append(token)

    def require_valid(self, tokens: Several[int], *, beside: int = 0) -> None:
        # An id beyond the vocabulary would make MLX read memory that is not its own.
        if not tokens or not all(0 <= token < self._vocab_size for token in tokens):
            raise InvalidRequest(f"tokens must lie in 0..{self._vocab_size - 1}", param="prompt")
        if beside + len(tokens) > self._longest:
            raise InvalidRequest(f"the model takes at most {self._longest} tokens", param="prompt")

    def remove(self, uids: Collection[int]) -> list[tuple[int, int, int]]:
        """Takes rows out. Gives the moves that close the gaps, to be made in this order: from
        which place, to which, and how much of its cache is in use."""
        moves = []
        for place in reversed(range(len(self._rows))):
            if self._rows[place].uid in uids:
                last = self._rows.pop()
                if place < len(self._rows):
                    self._rows[place] = last
                    moves.append((len(self._rows), place, last.fed))
        return moves

    def clear(self) -> None:
        self._rows.clear()

    def take_blocks(self) -> list[Block[W]]:
        """What to feed now, which then counts as fed: all rows that wait with one token, and
        one block of prompts."""
        taken, has_prompts = [], False
        for block in self._blocks():
            if block.width > 1 and has_prompts:
                continue
            has_prompts = has_prompts or block.width > 1
            taken.append(block)
        for block in taken:
            for row in self._rows[block.first : block.end]:
                row.fed = len(row.tokens)
        return taken

    def _blocks(self) -> Iterator[Block[W]]:
        first = 0
        for waiting, group in groupby(self._rows, lambda row: row.waiting):
            rows = list(group)
            together = max(1, TOKENS_AT_ONCE // waiting) if waiting > 1 else len(rows)
            for begin in range(0, len(rows) if waiting else 0, together):
                yield _block(first + begin, rows[begin : begin + together])
            first += len(rows)


def _block(first: int, rows: Several[Row[W]]) -> Block[W]:
    alike = [list(group) for _, group in groupby(rows, lambda row: id(row.window))]
    return Block(
        first=first,
        uids=tuple(row.uid for row in rows),
        tokens=tuple(tuple(row.tokens[row.fed :]) for row in rows),
        starts=tuple(row.fed for row in rows),
        windows=tuple((group[0].window, len(group)) for group in alike),
    )
