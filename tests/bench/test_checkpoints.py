from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from mlxsrv.backends.checkpoint import read
from mlxsrv.backends.limit import load_limit
from mlxsrv.backends.select import Backend
from mlxsrv.bench import checkpoints, gguf_export, words
from mlxsrv.bench.checkpoints import Shape
from mlxsrv.bench.words import FIRST_WORD, Message, Speaker
from mlxsrv.core.errors import ConfigError

SHAPE = Shape(64, 2, 1, 1, 64, 400)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("checkpoint")
    checkpoints.build(made, SHAPE)
    return made


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(folder)


def test_words_are_different_plain_and_begin_alike() -> None:
    many = words.words(8192)
    assert len(set(many)) == 8192
    assert all(word.isascii() and word.isalpha() and word.islower() for word in many)
    assert words.words(10) == many[:10]


@given(ids=st.lists(st.integers(FIRST_WORD, SHAPE.vocabulary - 1), min_size=1, max_size=20))
def test_an_answer_is_encoded_into_the_tokens_it_was(
    tokenizer: PreTrainedTokenizerBase, ids: list[int]
) -> None:
    text = tokenizer.decode(ids)
    assert isinstance(text, str)
    assert tokenizer.encode(text) == ids
    assert tokenizer.encode(text.removeprefix(" ")) == ids, "some servers take the space off"


def test_known_lengths_hold_for_the_template(tokenizer: PreTrainedTokenizerBase) -> None:
    speaker = Speaker(SHAPE.vocabulary, 1)
    chat = [
        Message("system", speaker.text(3)),
        speaker.user(5),
        Message("assistant", " " + speaker.text(4)),
        speaker.user(2),
    ]
    ids = tokenizer.apply_chat_template(
        [message.json() for message in chat], add_generation_prompt=True, return_dict=False
    )
    assert ids == speaker.chat_ids(chat)
    assert Speaker(SHAPE.vocabulary, 1).text(3) == chat[0].content


def test_any_text_can_be_encoded(folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids = tokenizer.encode("Hello, wörld!").ids
    assert tokenizer.decode(ids) == " Hello, wörld!"


def test_our_server_would_load_it(folder: Path) -> None:
    found = read(folder)
    assert (found.model_type, found.dtype, found.has_chat_template) == ("llama", "float32", True)
    assert found.parameters == SHAPE.parameters


@pytest.mark.parametrize(("name", "millions"), [("tiny", 5), ("small", 56)])
def test_sizes(name: str, millions: int) -> None:
    assert checkpoints.SHAPES[name].parameters // 1_000_000 == millions


def generated(folder: Path, prompts: Sequence[Sequence[int]], tokens: int) -> list[list[int]]:
    import torch
    from transformers import AutoModelForCausalLM, DynamicCache

    model = AutoModelForCausalLM.from_pretrained(folder)
    cache, inputs, found = DynamicCache(config=model.config), torch.tensor(prompts), []
    with torch.inference_mode():
        for _ in range(tokens):
            logits = model(inputs, past_key_values=cache).logits[:, -1]
            assert logits[:, :FIRST_WORD].max() < logits.max() - 100, "an end is as good as never"
            inputs = logits.argmax(-1, keepdim=True)
            found.append(inputs[:, 0].tolist())
    return [list(sequence) for sequence in zip(*found, strict=True)]


def test_answers_never_end_and_say_more_than_one_word(folder: Path) -> None:
    speaker = Speaker(SHAPE.vocabulary, 3)
    answers = generated(folder, [speaker.chat_ids([speaker.user(8)]) for _ in range(3)], 60)
    for answer in answers:
        assert min(answer) >= FIRST_WORD
        assert len(set(answer)) > 5


@pytest.mark.parametrize("backend", ["mlx", "torch"])
def test_the_library_alone_generates_as_much_as_was_asked(folder: Path, backend: Backend) -> None:
    speaker = Speaker(SHAPE.vocabulary, 3)
    prompts = [speaker.chat_ids([speaker.user(8)]) for _ in range(3)]
    times = load_limit(backend, folder).generate(prompts, 7)
    assert [len(sequence) for sequence in times] == [7, 7, 7]
    assert all(sequence == sorted(sequence) for sequence in times)


def test_a_checkpoint_is_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(checkpoints.SHAPES, "tiny", SHAPE)
    first = checkpoints.ensure("tiny", tmp_path)
    before = (first.folder / "model.safetensors").stat().st_mtime_ns
    assert checkpoints.ensure("tiny", tmp_path) == first
    assert (first.folder / "model.safetensors").stat().st_mtime_ns == before
    assert [path.name for path in first.folder.parent.iterdir()] == ["tiny"]
    with pytest.raises(ConfigError, match="no checkpoint huge: there are tiny and small"):
        checkpoints.ensure("huge", tmp_path)


def test_the_gguf_holds_the_same_model(folder: Path) -> None:
    pytest.importorskip("gguf")
    import torch
    from gguf import GGUFReader
    from transformers import AutoModelForCausalLM

    checkpoint = checkpoints.Checkpoint("x", folder, SHAPE.vocabulary, 0)
    path = gguf_export.ensure(checkpoint)
    reader = GGUFReader(path)
    assert "tokenizer.chat_template" in reader.fields
    assert len(reader.fields["tokenizer.ggml.tokens"].data) == SHAPE.vocabulary
    settings = json.loads((folder / "config.json").read_text())
    speaker = Speaker(SHAPE.vocabulary, 3)
    ids = torch.tensor([speaker.chat_ids([speaker.user(20)])])
    models = [
        AutoModelForCausalLM.from_pretrained(folder),
        AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32),
    ]
    assert models[1].config.hidden_size == settings["hidden_size"]
    with torch.inference_mode():
        one, other = (model(ids).logits for model in models)
    assert torch.allclose(one, other, atol=1e-3)
