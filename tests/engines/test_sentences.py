"""Long texts in pieces: where they are cut, and that nothing is lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxsrv.engines.sentences import cleaned, halves, pieces, weight

MOST = 150.0


def cut(text: str, most: float = MOST, first: float | None = None) -> list[str]:
    return list(pieces(text, most, first))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "The cat sat on the mat today. The dog barked at it loudly.",
            ["The cat sat on the mat today.", "The dog barked at it loudly."],
        ),
        (
            'Dr. Smith paid $3.50 to J. R. R. Tolkien! "Was it really so little?" she asked.',
            ["Dr. Smith paid $3.50 to J. R. R. Tolkien!", '"Was it really so little?" she asked.'],
        ),
        (
            "He lives in the U.S. Army base, e.g. in No. 5, etc. and says no. Then he goes away.",
            [
                "He lives in the U.S. Army base, e.g. in No. 5, etc. and says no.",
                "Then he goes away.",
            ],
        ),
        (
            "Well... it works. Version 3.11.2 is out!",
            ["Well... it works.", "Version 3.11.2 is out!"],
        ),
        (
            "今天天气很好，我们一起去公园散步吧！你觉得怎么样呢？「好的，走吧。」",
            ["今天天气很好，我们一起去公园散步吧！", "你觉得怎么样呢？", "「好的，走吧。」"],
        ),
        (
            "هل أنت بخير يا صديقي العزيز؟ نعم، أنا بخير اليوم.",
            ["هل أنت بخير يا صديقي العزيز؟", "نعم، أنا بخير اليوم."],
        ),
        (
            "यह एक अच्छा दिन है मेरे दोस्त। चलो बाहर चलते हैं।",
            ["यह एक अच्छा दिन है मेरे दोस्त।", "चलो बाहर चलते हैं।"],
        ),
        (
            "A title without a stop\n\nSome text\nthat wraps:\n- the first item\n2) the second",
            [
                "A title without a stop",
                "Some text that wraps:",
                "- the first item",
                "2) the second",
            ],
        ),
        ("Great work 🎉🎉! See you 👩‍👩‍👧 soon.", ["Great work 🎉🎉!", "See you 👩‍👩‍👧 soon."]),
        (
            "So it was said. Yes. No. Who knows what it means in the end.",
            ["So it was said.", "Yes. No. Who knows what it means in the end."],
        ),
        ("", []),
        (" \n\t ", []),
    ],
)
def test_sentences_end_where_a_reader_would_pause(text: str, expected: list[str]) -> None:
    assert cut(text) == expected


def test_a_long_sentence_is_cut_after_clauses_then_words_then_anywhere() -> None:
    clause = "which has a clause that goes on for quite a while, "
    found = cut(clause * 8)
    assert all(piece.endswith("while,") for piece in found)
    assert len(found) == 4
    words = cut("word " * 100)
    assert all(set(piece.split()) == {"word"} for piece in words)
    assert [len(piece) for piece in cut("x" * 400)] == [150, 150, 100]
    family = "\U0001f469‍\U0001f469‍\U0001f467"
    assert all(set(piece) == set(family) and piece[0] != "‍" for piece in cut(family * 30))


def test_the_first_piece_can_be_shorter() -> None:
    text = "This is a sentence, with a clause or two in it, that is longer than sixty letters."
    assert cut(text) == [text]
    first, *rest = cut(text, first=60)
    assert first == "This is a sentence, with a clause or two in it,"
    assert rest == ["that is longer than sixty letters."]


def test_what_takes_long_to_say_weighs_more() -> None:
    assert weight("abc d") == 5
    assert weight("123") > weight("abc")
    assert weight("漢字") > weight("abc")
    assert [len(piece) for piece in cut("1234567890" * 10)] == [37, 37, 26]


TEXTS = st.text(
    st.one_of(
        st.characters(codec="utf-8"),
        st.sampled_from(" \n.!?,;:。！？、—-'\")」 aA1字é👍🏽‍\u0301\x00\r"),
    ),
    max_size=300,
)


@given(TEXTS, st.floats(5, 200), st.floats(5, 200))
def test_nothing_is_lost_and_nothing_comes_twice(text: str, most: float, first: float) -> None:
    found = cut(text, most, first)
    assert "".join("".join(found).split()) == "".join(cleaned(text).split())
    assert all(piece == piece.strip() and piece for piece in found)
    assert all(weight(piece) <= most or len(piece.split()) == 1 for piece in found)


@given(st.text(min_size=1, max_size=100))
def test_halves_are_smaller_or_the_same(text: str) -> None:
    for piece in cut(text):
        found = halves(piece)
        assert "".join("".join(found).split()) == "".join(piece.split())
        if len(piece.split()) > 1:
            assert len(found) > 1
            assert max(map(weight, found)) < weight(piece)


def test_long_texts_are_cut_in_no_time() -> None:
    for text in ("word " * 20_000, "字" * 100_000, ". " * 50_000, "\n" * 100_000, '."' * 50_000):
        found = cut(text)
        assert "".join("".join(found).split()) == "".join(text.split())
