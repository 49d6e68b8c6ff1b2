from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mlxsrv.core.text import TextRequest
from mlxsrv.engines.detokenize import Detokenizer, WindowDetokenizer
from mlxsrv.engines.tokenizer import TextTokenizer
from tests.tiny_models import build


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> TextTokenizer:
    return TextTokenizer(build(tmp_path_factory.mktemp("tiny")))


def decoded(decoder: Detokenizer | WindowDetokenizer, ids: list[int]) -> tuple[list[str], str]:
    pieces = [decoder.feed(token) for token in ids]
    return pieces, "".join(pieces) + decoder.flush()


@pytest.mark.parametrize("kind", ["bytes", "window"])
@given(text=st.text())
def test_pieces_join_to_the_text(tokenizer: TextTokenizer, kind: str, text: str) -> None:
    ids = tokenizer.encode(text, add_special_tokens=False)
    pieces, whole = decoded(_decoder(tokenizer, kind), ids)
    assert whole == text
    # A character is shown whole or not at all.
    assert "\ufffd" in text or not any("\ufffd" in piece for piece in pieces)


def _decoder(tokenizer: TextTokenizer, kind: str) -> Detokenizer | WindowDetokenizer:
    if kind == "bytes":
        return Detokenizer(tokenizer.piece)
    return WindowDetokenizer(tokenizer.decode)


@given(st.lists(st.integers(3, 319), max_size=30))
def test_any_tokens_give_what_the_tokenizer_gives(tokenizer: TextTokenizer, ids: list[int]) -> None:
    _, whole = decoded(Detokenizer(tokenizer.piece), ids)
    assert whole == tokenizer.decode(ids)


def test_an_unfinished_character_shows_as_a_replacement_at_the_end(
    tokenizer: TextTokenizer,
) -> None:
    ids = tokenizer.encode("aé", add_special_tokens=False)[:-1]
    pieces, whole = decoded(Detokenizer(tokenizer.piece), ids)
    assert pieces[-1] == ""
    assert whole == "a\ufffd"


def test_hidden_tokens_have_no_text() -> None:
    pieces: Callable[[int], bytes] = {1: b"a", 2: b"<end>", 3: b"b"}.__getitem__
    assert decoded(Detokenizer(pieces, {2}), [1, 2, 3])[1] == "ab"


def test_the_first_space_is_stripped_once() -> None:
    pieces: Callable[[int], bytes] = {1: b" a", 2: b" b"}.__getitem__
    decoder = Detokenizer(pieces, strip_first_space=True)
    assert decoded(decoder, [1, 2, 1])[1] == "a b a"


STORIES = Path(__file__).parents[3] / "shared/data/stories260K/hf"


@pytest.fixture(scope="module")
def stories() -> TextTokenizer:
    if not STORIES.exists():
        pytest.skip("the real checkpoint is not on this machine")
    return TextTokenizer(STORIES)


@given(text=st.text(alphabet=st.characters(codec="ascii", exclude_categories=["Cc"]), min_size=1))
def test_a_sentencepiece_tokenizer_keeps_the_space_before_a_continuation(
    stories: TextTokenizer, text: str
) -> None:
    ids = stories.encode("Once upon " + text, add_special_tokens=False)
    start = stories.encode("Once upon", add_special_tokens=False)
    assume(ids[: len(start)] == start)
    _, whole = decoded(Detokenizer(stories.piece), ids[len(start) :])
    assert whole == " " + text


def test_a_sentencepiece_tokenizer_starts_a_text_without_the_space(stories: TextTokenizer) -> None:
    ids = stories.encode("Lily saw", add_special_tokens=False)
    request = TextRequest(((1,),), 9, starts_text=True)
    decoder = stories.decoder(request)
    assert "".join(decoder.feed(token) for token in ids) + decoder.flush() == "Lily saw"
