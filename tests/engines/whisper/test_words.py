"""Words and their times."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from mlxsrv.core.errors import LoadError
from mlxsrv.core.transcription import Segment
from mlxsrv.engines.whisper.timing import median_filter, token_times, warp
from mlxsrv.engines.whisper.vocabulary import Vocabulary, read_vocabulary
from mlxsrv.engines.whisper.words import (
    Timed,
    merge_punctuation,
    split_words,
    timed_words,
    with_words,
)
from tests import tiny_whisper

Floats = NDArray[np.float32]


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    folder = tmp_path_factory.mktemp("words")
    ids = tiny_whisper.write_tokenizer(folder, 99)
    return read_vocabulary(folder, len(ids))


def cheapest(costs: Floats) -> float:
    """The cost of the best path, cell by cell."""
    total = np.full((costs.shape[0] + 1, costs.shape[1] + 1), np.inf)
    total[0, 0] = 0
    for i in range(costs.shape[0]):
        for j in range(costs.shape[1]):
            total[i + 1, j + 1] = costs[i, j] + min(total[i, j], total[i, j + 1], total[i + 1, j])
    return float(total[-1, -1])


COSTS = arrays(
    np.float32,
    st.tuples(st.integers(1, 7), st.integers(1, 9)),
    elements=st.integers(-8, 8).map(float),
)


@settings(deadline=None)
@given(COSTS)
def test_the_path_is_the_cheapest_and_goes_step_by_step(costs: Floats) -> None:
    rows, columns = warp(costs)
    assert (rows[0], columns[0]) == (0, 0)
    assert (rows[-1], columns[-1]) == (costs.shape[0] - 1, costs.shape[1] - 1)
    steps = set(zip(np.diff(rows).tolist(), np.diff(columns).tolist(), strict=True))
    assert steps <= {(0, 1), (1, 0), (1, 1)}
    assert costs[rows, columns].sum() == cheapest(costs)


@settings(deadline=None)
@given(
    arrays(
        np.float32,
        st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 20)),
        elements=st.floats(-5, 5, width=32),
    )
)
def test_the_median_is_of_seven_neighbours(values: Floats) -> None:
    filtered = median_filter(values)
    if values.shape[-1] <= 3:
        assert (filtered == values).all()
        return
    padded = np.pad(values, [(0, 0), (0, 0), (3, 3)], mode="reflect")
    for place in range(values.shape[-1]):
        expected = np.median(padded[..., place : place + 7], axis=-1)
        np.testing.assert_array_equal(filtered[..., place], expected)


def test_tokens_are_placed_where_their_heads_look() -> None:
    moments = [0, 30, 38, 80, 120]
    scores = np.zeros((3, 3 + len(moments) + 1, 1500), np.float32)
    for place, (moment, following) in enumerate(pairwise([*moments, 150])):
        scores[:, 3 + place, moment:following] = 12
    times = token_times(scores, 3, 150)
    assert len(times) == len(moments)
    assert times[0] == 0
    assert times[1:] == pytest.approx([m * 0.02 for m in moments[1:]], abs=0.05)
    assert (np.diff(times) >= 0).all()


@settings(deadline=None)
@given(text=st.text(max_size=40))
def test_words_lose_nothing(vocabulary: Vocabulary, text: str) -> None:
    tokens = vocabulary.encode(text)
    for language in ("en", "ja"):
        words = split_words(tokens, vocabulary, language)
        assert "".join(word for word, _ in words) == vocabulary.text(tokens) == text
        assert sum(count for _, count in words) == len(tokens)


@settings(deadline=None)
@given(tokens=st.lists(st.integers(0, 299), max_size=30))
def test_broken_characters_are_no_trouble(vocabulary: Vocabulary, tokens: list[int]) -> None:
    words = split_words(tokens, vocabulary, "en")
    assert sum(count for _, count in words) == len(tokens)
    assert all(count > 0 for _, count in words)


def test_words_are_split_at_spaces_or_characters(vocabulary: Vocabulary) -> None:
    text = " Hello, it's 日本 (ok)."
    english = split_words(vocabulary.encode(text), vocabulary, "en")
    assert [word for word, _ in english] == [
        " Hello", ",", " it", "'", "s", " 日本", " (", "ok", ")", ".",
    ] or "".join(word for word, _ in english) == text  # fmt: skip
    japanese = [word for word, _ in split_words(vocabulary.encode("日本語"), vocabulary, "ja")]
    assert japanese == ["日", "本", "語"]


WORDS = st.lists(
    st.sampled_from([" one", " two", ",", ".", " (", " “", ")", "?", " -", "'s", " "]), max_size=12
)


@settings(deadline=None)
@given(WORDS)
def test_signs_join_words_and_lose_nothing(texts: list[str]) -> None:
    words = [Timed(text, 1, place, place + 1) for place, text in enumerate(texts)]
    merge_punctuation(words)
    assert "".join(word.text for word in words) == "".join(texts)
    assert sum(word.tokens for word in words) == len(texts)
    assert all(bool(word.text) == bool(word.tokens) for word in words)


def test_signs_go_to_their_word() -> None:
    texts = [" He", " said", ",", " “", "go", "!", "”", " (", "now", ")", "."]
    words = [Timed(text, 1, place, place + 1) for place, text in enumerate(texts)]
    merge_punctuation(words)
    assert [word.text for word in words if word.text] == [" He", " said,", " “go!”", " (now)."]


def segment(start: float, end: float, text: str) -> Segment:
    return Segment(0, 1000, start, end, text, (), 0.0, -0.1, 1.0, 0.0)


def test_segments_get_their_words_and_the_times_of_these() -> None:
    segments = [segment(10, 12, " One two."), segment(12, 14, " Three.")]
    texts = [(" One", 1), (" two", 1), (".", 1), (" Three", 1), (".", 1)]
    words = timed_words(texts, np.array([0.1, 0.6, 1.4, 2.1, 2.9, 3.0]))
    first, second = with_words(segments, words, [3, 2], 10.0, 0.0)
    assert [word.text for word in first.words] == [" One", " two."]
    assert [word.text for word in second.words] == [" Three."]
    assert (first.start, first.end) == (first.words[0].start, 11.4)
    assert (second.start, second.end) == (12.1, 12.9)
    assert all(word.start <= word.end for one in (first, second) for word in one.words)


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([" a", " bb", ".", ",", " (", "c"]), min_size=1, max_size=12),
    st.data(),
)
def test_words_never_end_before_they_begin(texts: list[str], data: st.DataObject) -> None:
    steps = data.draw(st.lists(st.integers(0, 200), min_size=len(texts), max_size=len(texts)))
    times = np.concatenate([[0], np.cumsum(steps)]) * 0.02
    words = timed_words([(text, 1) for text in texts], times)
    middle = data.draw(st.integers(0, len(texts)))
    counts = [middle, len(texts) - middle]
    segments = [segment(10, 11, "x"), segment(11, 12, "y")]
    found = with_words(segments, words, counts, 10.0, data.draw(st.sampled_from([0.0, 9.5])))
    for one in found:
        for word in one.words:
            assert word.start <= word.end + 1e-6
    spoken = "".join(word.text for one in found for word in one.words)
    assert spoken == "".join(texts)


def test_a_published_tokenizer_is_read(tmp_path: Path) -> None:
    """The demo model's has the vocabulary of OpenAI's models."""
    folder = Path(__file__).parents[3] / "models" / "demo-whisper"
    if not folder.exists():
        pytest.skip("no demo-whisper here")
    (tmp_path / "config.json").write_text("{}")
    named, bare = read_vocabulary(folder, 51_865), read_vocabulary(tmp_path, 51_865)
    assert named.special == bare.special
    assert named.special.first_stamp == 50_364
    assert bare.blank == frozenset({220, 50_257})
    generation = json.loads((folder / "generation_config.json").read_text())
    published = generation["suppress_tokens"]
    assert bare.suppressed >= named.special.suppressed
    if published:
        assert bare.suppressed == named.suppressed
    large = read_vocabulary(tmp_path, 51_866)
    assert large.special.languages["yue"] == 50_358
    assert large.special.first_stamp == 50_365


def test_an_english_model_without_a_tokenizer_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"https://huggingface\.co/openai/whisper-tiny\.en/"):
        read_vocabulary(tmp_path, 51_864)


def test_names_of_special_tokens_in_a_prompt_are_text(vocabulary: Vocabulary) -> None:
    tokens = vocabulary.encode("<|endoftext|> <|0.00|>")
    assert max(tokens) < vocabulary.special.end
    assert vocabulary.text(tokens) == "<|endoftext|> <|0.00|>"
