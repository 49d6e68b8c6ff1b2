from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlxsrv.core.text import Kept
from mlxsrv.engines.prefix_cache import SHORTEST, PrefixCache

TOKENS = st.lists(st.integers(0, 1), min_size=SHORTEST, max_size=SHORTEST + 8).map(tuple)


def kept(tokens: tuple[int, ...], nbytes: int = 10, *, can_be_cut: bool = True) -> Kept:
    return Kept(tokens, state=tokens, nbytes=nbytes, can_be_cut=can_be_cut)


def common(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


@given(st.lists(TOKENS, max_size=6), TOKENS)
def test_it_finds_the_longest_beginning_that_was_kept(
    stored: list[tuple[int, ...]], wanted: tuple[int, ...]
) -> None:
    cache = PrefixCache(1_000_000)
    for tokens in stored:
        cache.put(kept(tokens))
    best = max((common(tokens, wanted) for tokens in stored), default=0)
    best = min(best, len(wanted) - 1)
    found = cache.find(wanted)
    if best < SHORTEST:
        assert found is None
    else:
        assert found is not None
        assert found.length == best
        assert isinstance(found.state, tuple)
        assert found.state[:best] == wanted[:best]


@given(st.lists(TOKENS, max_size=6), TOKENS)
def test_what_can_not_be_cut_is_used_whole_or_not_at_all(
    stored: list[tuple[int, ...]], wanted: tuple[int, ...]
) -> None:
    cache = PrefixCache(1_000_000)
    for tokens in stored:
        cache.put(kept(tokens, can_be_cut=False))
    found = cache.find(wanted)
    usable = [t for t in stored if t == wanted[: len(t)] and len(t) < len(wanted)]
    assert (found.length if found else 0) == max(map(len, usable), default=0)


@given(st.lists(st.tuples(TOKENS, st.integers(1, 40)), max_size=12), st.integers(0, 100))
def test_it_never_holds_more_than_its_budget(
    stored: list[tuple[tuple[int, ...], int]], budget: int
) -> None:
    cache = PrefixCache(budget)
    for tokens, nbytes in stored:
        cache.put(kept(tokens, nbytes))
        assert cache.nbytes <= budget
    assert (cache.nbytes == 0) == (len(cache) == 0)


def test_the_least_recently_used_goes_first() -> None:
    first, second, third = ((n,) * 20 for n in range(3))
    cache = PrefixCache(25)
    cache.put(kept(first))
    cache.put(kept(second))
    assert cache.find((*first, 9)) is not None
    cache.put(kept(third))
    assert cache.find((*second, 9)) is None
    assert cache.find((*first, 9)) is not None


def test_a_longer_conversation_takes_the_place_of_its_beginning() -> None:
    cache = PrefixCache(1000)
    cache.put(kept((1,) * 20))
    cache.put(kept((1,) * 30))
    assert (len(cache), cache.nbytes) == (1, 10)
    cache.put(kept((1,) * 25))
    assert len(cache) == 1
    found = cache.find((1,) * 40)
    assert found is not None
    assert found.length == 30
