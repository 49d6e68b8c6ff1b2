from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxsrv.engines.parsers.reasoning import ReasoningSplitter

TAGS = ("<think>", "</think>")


def split(pieces: list[str], *, thinking: bool = False) -> tuple[str, str]:
    splitter = ReasoningSplitter(TAGS, thinking=thinking)
    parts = [splitter.feed(piece) for piece in pieces] + [splitter.flush()]
    return "".join(content for content, _ in parts), "".join(thought for _, thought in parts)


@pytest.mark.parametrize(
    ("text", "thinking", "content", "reasoning"),
    [
        ("plain answer", False, "plain answer", ""),
        ("<think>hm</think>yes", False, "yes", "hm"),
        ("<think>\nhm\n</think>\n\nyes </think>", False, "yes </think>", "hm\n"),
        ("hm</think>yes", True, "yes", "hm"),
        ("<think>cut off", False, "", "cut off"),
        ("cut off </thi", True, "", "cut off </thi"),
        ("<thinking about", False, "<thinking about", ""),
        ("\n <think>a</think>", False, "", "a"),
        ("<thi", False, "<thi", ""),
        ("answer with <think>tags</think>", False, "answer with <think>tags</think>", ""),
        ("", False, "", ""),
    ],
)
def test_splits(text: str, thinking: bool, content: str, reasoning: str) -> None:
    assert split([text], thinking=thinking) == (content, reasoning)
    assert split(list(text), thinking=thinking) == (content, reasoning)


@given(
    st.lists(st.sampled_from(["<think>", "</think>", "<", "think>", "a", " ", "\n"]), max_size=10),
    st.booleans(),
    st.data(),
)
def test_how_the_text_is_cut_into_pieces_does_not_matter(
    parts: list[str], thinking: bool, data: st.DataObject
) -> None:
    text = "".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert split(pieces, thinking=thinking) == split([text], thinking=thinking)
