"""Which rows a step feeds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxsrv.backends.transcription_rows import TOKENS_AT_ONCE, Block, RowTable
from mlxsrv.core.errors import InvalidRequest

VOCABULARY, LONGEST = 50, 100


def table() -> RowTable[object]:
    return RowTable(vocab_size=VOCABULARY, longest=LONGEST)


class Caches:
    """A cache that follows the blocks and the moves, with what each row should hold."""

    def __init__(self) -> None:
        self.rows = table()
        self.cells: dict[int, list[int]] = {}
        self.wanted: dict[int, list[int]] = {}
        self.places: list[int] = []

    def insert(self, uid: int, window: object, tokens: list[int]) -> None:
        self.rows.insert(uid, window, tokens)
        self.wanted[uid] = list(tokens)
        self.places.append(uid)

    def extend(self, uid: int, token: int) -> None:
        self.rows.extend(uid, token)
        self.wanted[uid].append(token)

    def feed(self) -> list[Block[object]]:
        blocks = self.rows.take_blocks()
        for block in blocks:
            fed = zip(block.uids, block.tokens, block.starts, strict=True)
            for place, (uid, tokens, start) in enumerate(fed, block.first):
                assert self.places[place] == uid
                held = self.cells.get(place, [])[:start]
                assert len(held) == start
                self.cells[place] = [*held, *tokens]
                assert self.cells[place] == self.wanted[uid]
        return blocks

    def remove(self, uids: set[int]) -> None:
        for source, target, length in self.rows.remove(uids):
            self.cells[target] = self.cells.get(source, [])[:length]
            self.places[target] = self.places[source]
        self.wanted = {uid: tokens for uid, tokens in self.wanted.items() if uid not in uids}
        del self.places[len(self.rows) :]
        assert set(self.places) == set(self.wanted)


actions = st.lists(
    st.one_of(
        st.tuples(st.just("insert"), st.integers(0, 2), st.integers(1, 9)),
        st.tuples(st.just("feed"), st.just(0), st.just(0)),
        st.tuples(st.just("extend"), st.integers(0, 30), st.integers(0, 49)),
        st.tuples(st.just("remove"), st.integers(0, 30), st.integers(0, 30)),
    ),
    max_size=40,
)


@given(actions)
def test_every_cache_holds_its_rows_tokens_whatever_happens(
    actions: list[tuple[str, int, int]],
) -> None:
    caches, windows, uids = Caches(), [object(), object(), object()], iter(range(100))
    for action, one, two in actions:
        if action == "insert":
            caches.insert(next(uids), windows[one], list(range(two)))
        elif action == "extend" and one in caches.wanted:
            caches.extend(one, two)
        elif action == "remove":
            caches.remove({one, two})
        else:
            caches.feed()
    for _ in range(len(caches.wanted)):
        caches.feed()
    assert caches.feed() == []


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 2)), max_size=12))
def test_a_step_feeds_all_single_tokens_and_at_most_one_prompt_block(
    rows: list[tuple[int, int]],
) -> None:
    caches, windows = Caches(), [object(), object(), object()]
    for uid, (length, window) in enumerate(rows):
        caches.insert(uid, windows[window], list(range(length)))
    blocks = caches.feed()
    single = {uid for uid, (length, _) in enumerate(rows) if length == 1}
    assert {uid for block in blocks if block.width == 1 for uid in block.uids} == single
    assert sum(block.width > 1 for block in blocks) <= 1
    for block in blocks:
        assert list(_seen_by(block)) == [windows[rows[uid][1]] for uid in block.uids]


def _seen_by(block: Block[object]) -> Iterator[object]:
    for window, count in block.windows:
        yield from [window] * count


def test_prompts_are_bounded_by_what_a_step_may_feed() -> None:
    caches, window = Caches(), object()
    for uid in range(20):
        caches.insert(uid, window, [1] * 90)
    fed = [len(uids) for block in iter(caches.feed, []) for uids in [block[0].uids]]
    assert sum(fed) == 20
    assert max(fed) * 90 <= TOKENS_AT_ONCE


@pytest.mark.parametrize("tokens", [[], [-1], [VOCABULARY], [0] * (LONGEST + 1)])
def test_tokens_that_no_model_takes(tokens: list[int]) -> None:
    rows = table()
    with pytest.raises(InvalidRequest):
        rows.insert(1, object(), tokens)
    assert len(rows) == 0
