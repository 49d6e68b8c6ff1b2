"""What every rerank backend must do, proven on both with the same checkpoints."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mlxsrv.backends import checkpoint
from mlxsrv.backends.base import RerankBackend
from mlxsrv.backends.load import finished, load_rerank
from mlxsrv.backends.select import Backend
from mlxsrv.core.encoding import TokenRow
from mlxsrv.core.errors import GenerationFailed, LoadError
from tests import tiny_encoders as tiny
from tests.tiny_encoders import LONGEST, VOCABULARY, WIDTH, logits, random_rows

CLASSIFIER = "AutoModelForSequenceClassification"
LENGTHS = (11, 2, LONGEST, 30, 30, 7)
FAMILIES = ("bert", "distilbert", "modernbert", "mpnet", "nomic", "qwen3", "roberta", "xlm-roberta")

Scores = NDArray[np.float32]
Made = Callable[..., tuple[Path, Any]]

pytestmark = pytest.mark.usefixtures("mlx_thread")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The folder of a family's cross-encoder and the model in it; not to be changed."""
    built: dict[tuple[str, int], tuple[Path, Any]] = {}
    root = tmp_path_factory.mktemp("cross-encoders")

    def make(family: str, labels: int = 1) -> tuple[Path, Any]:
        key = family, labels
        if key not in built:
            folder = root / f"{family}-{labels}"
            model = tiny.build(folder, family, auto=CLASSIFIER, config={"num_labels": labels})
            built[key] = folder, model
        return built[key]

    return make


@pytest.fixture
def yes_no(tmp_path: Path) -> tuple[Path, Any]:
    """A language model that answers yes or no, called as those are."""
    folder = tmp_path / "Tiny-Reranker"
    return folder, tiny.build(folder, "qwen3", auto="AutoModelForCausalLM")


def load(backend: Backend, folder: Path) -> RerankBackend:
    return finished(load_rerank(backend, checkpoint.read(folder)))


def rows_of(lengths: Sequence[int] = LENGTHS) -> list[TokenRow]:
    """Pairs: the second half of each row is the document."""
    return [
        TokenRow(ids, types=(0,) * (len(ids) // 2) + (1,) * (len(ids) - len(ids) // 2))
        for ids in random_rows(lengths)
    ]


def sigmoid(values: NDArray[Any]) -> NDArray[Any]:
    return 1 / (1 + np.exp(-values.astype(np.float64)))


def reference(
    model: Any, rows: Sequence[TokenRow], read: Callable[[NDArray[Any]], Any], *, pairs: bool
) -> Scores:
    """Every row by itself, `read` from the model's own logits."""
    found = [read(logits(model, row.ids, row.types if pairs else ())) for row in rows]
    return np.array(found, np.float32)


def assert_same(found: Scores, expected: Scores) -> None:
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-4)


def tells_texts_apart(family: str) -> bool:
    return family in {"bert", "nomic"}


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_those_of_transformers(made: Made, backend_name: Backend, family: str) -> None:
    folder, model = made(family)
    backend = load(backend_name, folder)
    expected = reference(
        model, rows_of(), lambda row: sigmoid(row)[0], pairs=tells_texts_apart(family)
    )
    assert np.ptp(expected) > 0.1
    assert_same(backend.score(rows_of()), expected)
    assert (backend.facts.backend, backend.facts.vocab_size) == (backend_name, VOCABULARY)
    backend.close()


@pytest.mark.parametrize("family", ["bert", "modernbert", "qwen3"])
def test_a_row_gives_the_same_alone_and_in_any_batch(
    made: Made, backend_name: Backend, family: str
) -> None:
    backend = load(backend_name, made(family)[0])
    rows = rows_of()
    alone = np.concatenate([backend.score([row]) for row in rows])
    assert_same(backend.score(rows), alone)
    assert_same(backend.score(rows[::-1]), alone[::-1])


def test_which_text_a_token_belongs_to_matters(made: Made, backend_name: Backend) -> None:
    backend = load(backend_name, made("bert")[0])
    (ids,) = random_rows((10,))
    one, two, none = backend.score(
        [TokenRow(ids, (0,) * 5 + (1,) * 5), TokenRow(ids, (0,) * 7 + (1,) * 3), TokenRow(ids)]
    )
    assert abs(one - two) > 1e-3
    assert_same(np.array([none]), backend.score([TokenRow(ids, (0,) * 10)]))


def softmax(row: NDArray[Any]) -> NDArray[np.float64]:
    shares = np.exp(row.astype(np.float64))
    return np.asarray(shares / shares.sum())


@pytest.mark.parametrize(
    ("settings", "read"),
    [
        ({}, lambda row: softmax(row)[-1]),
        ({"id2label": {"0": "a", "1": "Relevant", "2": "c"}}, lambda row: softmax(row)[1]),
        (
            {"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid"}},
            lambda row: sigmoid(row)[-1],
        ),
        (
            {"sbert_ce_default_activation_function": "torch.nn.modules.activation.Sigmoid"},
            lambda row: sigmoid(row)[-1],
        ),
        (
            {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}},
            lambda row: softmax(row)[-1],
        ),
    ],
)
def test_several_labels(
    made: Made,
    backend_name: Backend,
    tmp_path: Path,
    settings: Mapping[str, Any],
    read: Callable[[NDArray[Any]], float],
) -> None:
    folder, model = made("bert", 3)
    folder = Path(shutil.copytree(folder, tmp_path / "three"))
    tiny.edit(folder / "config.json", settings)
    expected = reference(model, rows_of(), read, pairs=True)
    assert_same(load(backend_name, folder).score(rows_of()), expected)


def test_modernbert_that_judges_by_all_tokens(backend_name: Backend, tmp_path: Path) -> None:
    config = {"num_labels": 1, "classifier_pooling": "mean"}
    model = tiny.build(tmp_path, "modernbert", auto=CLASSIFIER, config=config)
    expected = reference(model, rows_of(), lambda row: sigmoid(row)[0], pairs=False)
    assert_same(load(backend_name, tmp_path).score(rows_of()), expected)


def test_a_pooler_beside_the_head_is_not_used(
    made: Made, backend_name: Backend, tmp_path: Path
) -> None:
    folder, model = made("roberta")
    folder = Path(shutil.copytree(folder, tmp_path / "with-pooler"))
    pooler = {f"roberta.pooler.dense.{part}": torch.ones(8) for part in ("weight", "bias")}
    tiny.edit_weights(folder, lambda own: own | pooler)
    expected = reference(model, rows_of(), lambda row: sigmoid(row)[0], pairs=False)
    assert_same(load(backend_name, folder).score(rows_of()), expected)


@pytest.mark.parametrize("tied", [False, True])
def test_a_language_model_that_answers_yes_or_no(
    backend_name: Backend, tmp_path: Path, tied: bool
) -> None:
    folder = tmp_path / "Qwen3-Reranker"
    config = {"tie_word_embeddings": tied}
    model = tiny.build(folder, "qwen3", auto="AutoModelForCausalLM", config=config)
    words = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    answers = [words["yes"], words["no"]]
    assert checkpoint.read(folder).kind == "rerank"
    expected = reference(model, rows_of(), lambda row: softmax(row[-1][answers])[0], pairs=False)
    assert np.ptp(expected) > 0.1
    backend = load(backend_name, folder)
    assert_same(backend.score(rows_of()), expected)
    # Of the output layer two rows are enough.
    layers = sum(parameter.nbytes for parameter in model.base_model.parameters())
    assert backend.facts.memory_bytes == layers + 2 * WIDTH * 4


@pytest.mark.parametrize("no", [40, None])
def test_answers_that_sentence_transformers_names(
    yes_no: tuple[Path, Any], backend_name: Backend, no: int | None
) -> None:
    folder, model = yes_no
    scoring = {"true_token_id": 30, "false_token_id": no}
    tiny.sentence_transformer(
        folder, [("cross_encoder.modules.logit_score.LogitScore", "1_LogitScore", scoring)]
    )
    tiny.edit(folder / "config_sentence_transformers.json", {"model_type": "CrossEncoder"})

    def read(row: NDArray[Any]) -> Any:
        return sigmoid(row[-1][30] - (row[-1][no] if no is not None else 0))

    assert checkpoint.read(folder).kind == "rerank"
    expected = reference(model, rows_of(), read, pairs=False)
    assert_same(load(backend_name, folder).score(rows_of()), expected)


@pytest.mark.parametrize("form", ["bert", "qwen3", "yes_no"])
def test_quantised_for_mlx(made: Made, yes_no: tuple[Path, Any], tmp_path: Path, form: str) -> None:
    original = yes_no[0] if form == "yes_no" else made(form)[0]
    folder = Path(shutil.copytree(original, tmp_path / f"{form}-reranker"))
    tiny.quantize_for_mlx(folder, bits=8)
    rounded = load("torch", tmp_path / f"{form}-reranker-rounded")
    assert_same(load("mlx", folder).score(rows_of()), rounded.score(rows_of()))


def test_a_checkpoint_without_a_head(backend_name: Backend, tmp_path: Path) -> None:
    tiny.build(tmp_path, "bert")
    with pytest.raises(LoadError, match="BertModel has no head"):
        load(backend_name, tmp_path)


@pytest.mark.parametrize("family", ["bert", "qwen3"])
def test_a_head_without_its_weights(
    made: Made, backend_name: Backend, tmp_path: Path, family: str
) -> None:
    folder = Path(shutil.copytree(made(family)[0], tmp_path / family))
    heads = ("classifier", "score")
    tiny.edit_weights(folder, lambda own: {n: t for n, t in own.items() if not n.startswith(heads)})
    with pytest.raises(LoadError, match=r"no classification head|lacks"):
        load(backend_name, folder)


def test_a_vocabulary_without_yes_and_no(yes_no: tuple[Path, Any], backend_name: Backend) -> None:
    folder, _ = yes_no
    file = folder / "tokenizer.json"
    file.write_text(file.read_text().replace('"yes"', '"oui"'))
    with pytest.raises(LoadError, match="no tokens 'yes' and 'no'"):
        load(backend_name, folder)


def test_answers_outside_the_vocabulary(yes_no: tuple[Path, Any], backend_name: Backend) -> None:
    folder, _ = yes_no
    scoring = {"true_token_id": VOCABULARY, "false_token_id": 1}
    tiny.sentence_transformer(folder, [("models.LogitScore", "1_LogitScore", scoring)])
    with pytest.raises(LoadError, match="not in its vocabulary of 160"):
        load(backend_name, folder)


def test_a_label_that_is_not_there(made: Made, backend_name: Backend, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made("bert", 3)[0], tmp_path / "three"))
    tiny.edit(folder / "config.json", {"id2label": {"0": "a", "1": "b", "7": "yes"}})
    with pytest.raises(LoadError, match="can't load three"):
        load(backend_name, folder)


def test_numbers_that_overflow_are_an_error_of_that_call_alone(
    made: Made, backend_name: Backend, tmp_path: Path
) -> None:
    folder, model = made("bert")
    folder = Path(shutil.copytree(folder, tmp_path / "overflows"))

    def poison(own: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        own["bert.embeddings.word_embeddings.weight"][20] = float("inf")
        return own

    tiny.edit_weights(folder, poison)
    backend = load(backend_name, folder)
    good = [row for row in rows_of() if 20 not in row.ids]
    with pytest.raises(GenerationFailed, match="overflowed"):
        backend.score([*good, TokenRow((20, 21))])
    expected = reference(model, good, lambda row: sigmoid(row)[0], pairs=True)
    assert_same(backend.score(good), expected)
