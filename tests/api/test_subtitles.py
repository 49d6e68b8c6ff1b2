"""Subtitles, read again by their formats' rules."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from mlxsrv.api.subtitles import Cue, cues, srt, vtt
from mlxsrv.core.transcription import Segment, Word

CUES = st.lists(
    st.builds(
        Cue,
        st.floats(0, 500_000),
        st.floats(0, 500_000),
        st.text(max_size=30).map(str.strip).filter(bool),
    ),
    max_size=5,
)
CLOCK = r"(\d+):([0-5]\d):([0-5]\d)[.,](\d{3})"


def seconds(clock: str) -> float:
    found = re.fullmatch(CLOCK, clock)
    assert found, clock
    hour, minute, second, milli = map(int, found.groups())
    return hour * 3600 + minute * 60 + second + milli / 1000


@given(CUES)
def test_every_cue_can_be_read_again(shown: list[Cue]) -> None:
    for written, head in ((srt(shown), 0), (vtt(shown), 1)):
        blocks = [block for block in written.split("\n\n")[head:] if block]
        assert len(blocks) == len(shown)
        for number, (block, cue) in enumerate(zip(blocks, shown, strict=True), 1):
            lines = block.split("\n")
            if not head:
                assert lines.pop(0) == str(number)
            start, end = lines.pop(0).split(" --> ")
            assert abs(seconds(start) - cue.start) <= 0.0006
            assert abs(seconds(end) - cue.end) <= 0.0006
            assert not any(" --> " in line for line in lines)


def test_marks_are_no_markup() -> None:
    assert "a &lt;b&gt; &amp; c" in vtt([Cue(0, 1, "a <b> & c")])
    assert srt([Cue(3599.9996, 3600, "x")]) == "1\n01:00:00,000 --> 01:00:00,000\nx\n\n"


def test_segments_without_text_are_not_shown() -> None:
    words = (Word(" a", 0, 1), Word(" b", 1, 2))
    said = Segment(0, 0, 0, 2, " a b", (), 0, 0, 1, 0, words)
    blank = Segment(1, 0, 2, 3, " ", (), 0, 0, 1, 0)
    assert list(cues([said, blank], words=False)) == [Cue(0, 2, "a b")]
    assert list(cues([said, blank], words=True)) == [Cue(0, 1, "a"), Cue(1, 2, "b")]
