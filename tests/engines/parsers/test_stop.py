from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlxsrv.engines.parsers.stop import StopMatcher

SHORT = st.text(alphabet="abé", max_size=4)


def cut(text: str, stops: list[str]) -> str:
    """What must be left of a whole text, found the plain way: the earliest stop to complete."""
    for end in range(len(text) + 1):
        found = [stop for stop in stops if stop and text[:end].endswith(stop)]
        if found:
            return text[: end - max(map(len, found))]
    return text


@given(st.lists(SHORT, max_size=12), st.lists(SHORT.filter(bool), max_size=3))
def test_pieces_give_what_the_whole_text_gives(pieces: list[str], stops: list[str]) -> None:
    matcher = StopMatcher(stops)
    shown = "".join(map(matcher.feed, pieces)) + matcher.flush()
    text = "".join(pieces)
    assert text.startswith(shown)
    assert not any(stop in shown for stop in stops)
    assert matcher.matched == any(stop in text for stop in stops)
    if not matcher.matched:
        assert shown == text


@given(st.text(alphabet="ab", max_size=20), st.lists(SHORT.filter(bool), max_size=3))
def test_one_character_at_a_time_stops_at_the_first_stop_to_complete(
    text: str, stops: list[str]
) -> None:
    matcher = StopMatcher(stops)
    shown = "".join(map(matcher.feed, text)) + matcher.flush()
    assert shown == cut(text, stops)


def test_a_possible_beginning_is_held_back_until_it_is_not() -> None:
    matcher = StopMatcher(["STOP"])
    assert [matcher.feed(piece) for piece in ("a S", "TO", "x", "S", "TOP", "b")] == [
        "a ",
        "",
        "STOx",
        "",
        "",
        "",
    ]
    assert matcher.matched
