from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlxsrv.core.text import Kept
from mlxsrv.engines.prefix_cache import SHORTEST, PrefixCache

TOKENS = st.lists(st.integers(0, 1), min_size=SHORTEST, max_size=SHORTEST + 8).map(tuple)


ADAPTERS = st.sampled_from([None, "one", "other"])


def kept(
    tokens: tuple[int, ...],
    nbytes: int = 10,
    *,
    can_be_cut: bool = True,
    adapter: str | None = None,
    arrays: int = 0,
) -> Kept:
    state = (adapter, tokens)
    return Kept(tokens, state, nbytes, can_be_cut, adapter=adapter, arrays=arrays)


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
        assert found.state[1][:best] == wanted[:best]


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


@given(st.lists(st.tuples(TOKENS, st.integers(0, 9)), max_size=12), st.integers(0, 30))
def test_it_never_holds_more_arrays_than_it_may(
    stored: list[tuple[tuple[int, ...], int]], most: int
) -> None:
    cache = PrefixCache(1_000_000, max_arrays=most)
    for tokens, arrays in stored:
        cache.put(kept(tokens, arrays=arrays))
        assert cache.arrays <= most
        assert cache.find((*tokens, 9)) is not None or arrays > most


@given(st.lists(st.tuples(TOKENS, ADAPTERS), max_size=12), TOKENS, ADAPTERS)
def test_an_adapter_finds_what_it_would_find_alone(
    stored: list[tuple[tuple[int, ...], str | None]], wanted: tuple[int, ...], adapter: str | None
) -> None:
    shared, alone = PrefixCache(1_000_000), PrefixCache(1_000_000)
    for tokens, computed_with in stored:
        shared.put(kept(tokens, adapter=computed_with))
        if computed_with == adapter:
            alone.put(kept(tokens, adapter=computed_with))
    found = shared.find(wanted, adapter)
    assert found == alone.find(wanted, adapter)
    if found is not None:
        assert isinstance(found.state, tuple)
        assert found.state[0] == adapter


@given(st.lists(st.tuples(TOKENS, ADAPTERS), max_size=12), TOKENS)
def test_what_is_forgotten_is_gone_and_the_rest_is_as_it_was(
    stored: list[tuple[tuple[int, ...], str | None]], wanted: tuple[int, ...]
) -> None:
    cache, without = PrefixCache(1_000_000), PrefixCache(1_000_000)
    for tokens, adapter in stored:
        cache.put(kept(tokens, adapter=adapter, arrays=3))
        if adapter != "one":
            without.put(kept(tokens, adapter=adapter, arrays=3))
    cache.forget("one")
    assert cache.find(wanted, "one") is None
    assert (len(cache), cache.nbytes, cache.arrays) == (
        len(without),
        without.nbytes,
        without.arrays,
    )
    for adapter in (None, "other"):
        assert cache.find(wanted, adapter) == without.find(wanted, adapter)


@given(st.lists(st.tuples(TOKENS, st.integers(1, 40)), max_size=12), st.integers(-5, 300))
def test_reclaiming_frees_no_more_than_it_must(
    stored: list[tuple[tuple[int, ...], int]], wanted: int
) -> None:
    cache = PrefixCache(1_000_000)
    for tokens, nbytes in stored:
        cache.put(kept(tokens, nbytes))
    sizes = [entry.kept.nbytes for entry in cache._entries.values()]  # oldest first
    enough = next((n for n in range(len(sizes)) if sum(sizes[:n]) >= wanted), len(sizes))
    assert cache.reclaim(wanted) == sum(sizes[:enough])
    assert (len(cache), cache.nbytes) == (len(sizes) - enough, sum(sizes[enough:]))


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
