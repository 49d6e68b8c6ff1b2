"""Rows of tokens, against what transformers makes of the same files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer

from mlxsrv.core.encoding import TokenRow
from mlxsrv.core.errors import LoadError, Unsupported
from mlxsrv.engines.encoder_tokenizer import EncoderTokenizer, shorten
from mlxsrv.engines.pairs import CrossEncoder, Judge
from tests.tiny_models import write_tokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "world", "query", ":", "##s", "["]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """WordPiece between [CLS] and [SEP]; its file asks for padding and truncation, as MiniLM's."""
    folder = tmp_path_factory.mktemp("bert")
    tokenizer = Tokenizer(
        models.WordPiece({word: id_ for id_, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.add_special_tokens(WORDS[:5])
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=4)
    tokenizer.save(str(folder / "tokenizer.json"))
    return described(folder, "bert", "BertTokenizer")


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Byte-level tokens with an end token, as Qwen3-Embedding's."""
    folder = tmp_path_factory.mktemp("qwen")
    write_tokenizer(folder, 320, None)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    end = "<|endoftext|>"
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {end}", pair=f"$A {end} $B {end}", special_tokens=[(end, 0)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    return described(folder, "qwen3", "Qwen2Tokenizer")


def described(folder: Path, model_type: str, tokenizer_class: str) -> Path:
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": tokenizer_class}))
    return folder


def reference(folder: Path, *texts: str, **options: Any) -> tuple[int, ...]:
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return tuple(tokenizer(*texts, **options)["input_ids"])


@pytest.mark.parametrize("texts", [["hello worlds"], ["hello", "world world hello query:"]])
def test_texts_are_framed_as_transformers_does_it_and_never_cut(
    bert: Path, qwen: Path, texts: list[str]
) -> None:
    for folder in (bert, qwen):
        rows = EncoderTokenizer(folder).texts(texts)
        assert rows == [TokenRow(reference(folder, text)) for text in texts]


def test_a_folder_with_a_vocabulary_alone(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS))
    described(tmp_path, "bert", "BertTokenizer")
    assert EncoderTokenizer(tmp_path).texts(["Hello worlds"]) == [TokenRow((2, 5, 6, 9, 3))]


def test_special_tokens_in_a_callers_text_are_text(bert: Path, qwen: Path) -> None:
    (row,) = EncoderTokenizer(bert).texts(["hello [SEP] world"])
    assert row.ids[1:-1].count(3) == 0
    (row,) = EncoderTokenizer(qwen).texts(["hello <|im_end|>"])
    assert row.ids[-1] == 0
    assert row.ids.count(2) == 0


def test_a_prompt_is_part_of_the_text(bert: Path) -> None:
    tokenizer = EncoderTokenizer(bert, trusted=["query: "])
    (row,) = tokenizer.texts(["hello"], prompt="query: ")
    assert row == TokenRow(reference(bert, "query: hello"))
    (row,) = tokenizer.texts(["hello"], prompt="query: ", pool_prompt=False)
    assert row.unpooled == 3  # [CLS] query :


def test_a_prompt_may_hold_the_models_control_tokens(qwen: Path) -> None:
    prompt = "<|im_start|>user\n"
    tokenizer = EncoderTokenizer(qwen, trusted=[prompt])
    for text in ("hello", "hello <|im_end|>"):
        (row,) = tokenizer.texts([text], prompt=prompt, pool_prompt=False)
        assert row.ids[0] == 1
        assert row.ids.count(2) == 0
        assert row.ids[row.unpooled :] == tokenizer.texts([text])[0].ids
    assert tokenizer.texts(["hello"], prompt=prompt)[0].ids == reference(qwen, prompt + "hello")


def test_tokens_from_the_caller_give_what_their_text_gives(bert: Path, qwen: Path) -> None:
    for folder in (bert, qwen):
        tokenizer = EncoderTokenizer(folder, trusted=["query: "])
        for special in (True, False):
            given = tuple(tokenizer.encode("hello world", add_special_tokens=special))
            assert tokenizer.ids(given) == tokenizer.texts(["hello world"])[0]
    before = tokenizer.own("query: ")
    assert tokenizer.ids((5, 6), prompt="query: ", pool_prompt=False) == TokenRow(
        (*before, 5, 6, 0), unpooled=len(before)
    )


def test_lower_case_where_the_checkpoint_asks_for_it(qwen: Path) -> None:
    tokenizer = EncoderTokenizer(qwen, lowercase=True)
    assert tokenizer.texts(["HELLO"]) == EncoderTokenizer(qwen).texts(["hello"])


def test_pairs_have_segments(bert: Path, qwen: Path) -> None:
    rows = CrossEncoder(bert).rows("hello", ["world", "worlds [SEP]"], None)
    assert rows[0] == TokenRow((2, 5, 3, 6, 3), (0, 0, 0, 1, 1))
    assert rows[1].ids[3:-1].count(3) == 0
    (row,) = CrossEncoder(qwen).rows("hello", ["world"], None)
    assert row == TokenRow(reference(qwen, "hello", "world"))
    with pytest.raises(Unsupported, match="instruction"):
        CrossEncoder(bert).rows("hello", ["world"], "be strict")


@pytest.mark.parametrize("instruction", [None, "Find what is round"])
def test_a_judge_reads_the_published_format(qwen: Path, instruction: str | None) -> None:
    task = instruction or (
        "Given a web search query, retrieve relevant passages that answer the query"
    )
    system = (
        "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query "
        'and the Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n'
        "<|im_start|>user\n"
    )
    answer = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    body = f"<Instruct>: {task}\n<Query>: a ball?\n<Document>: It is round."
    (row,) = Judge(qwen).rows("a ball?", ["It is round."], instruction)
    assert row.ids == (
        *reference(qwen, system, add_special_tokens=False),
        *reference(qwen, body),
        *reference(qwen, answer, add_special_tokens=False),
    )


def test_only_the_document_is_cut(bert: Path, qwen: Path) -> None:
    for reader in (CrossEncoder(bert), Judge(qwen)):
        bare, whole = reader.rows("hello", ["", "world world world world"], None)
        cut = shorten(whole, len(bare.ids) + 2, reader.closing)
        assert len(cut.ids) == len(bare.ids) + 2
        assert len(cut.types) in (0, len(cut.ids))
        kept = len(cut.ids) - reader.closing
        assert cut.ids[:kept] == whole.ids[:kept]
        assert cut.ids[kept:] == whole.ids[len(whole.ids) - reader.closing :]


@given(st.integers(1, 40), st.integers(0, 3), st.integers(0, 40))
def test_a_row_is_cut_to_its_length_or_left_alone(length: int, closing: int, size: int) -> None:
    row = TokenRow(tuple(range(size)), (1,) * size, min(size, 5))
    cut = shorten(row, length, closing)
    if size <= length:
        assert cut == row
    elif length >= closing:
        assert len(cut.ids) == len(cut.types) == length
        assert cut.ids[length - closing :] == row.ids[size - closing :]
        assert cut.unpooled < length


def test_a_folder_without_a_tokenizer_is_no_model(tmp_path: Path) -> None:
    described(tmp_path, "bert", "BertTokenizer")
    with pytest.raises(LoadError, match="tokenizer"):
        EncoderTokenizer(tmp_path)
