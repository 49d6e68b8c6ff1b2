"""What every embedding backend must do, proven on both with the same checkpoints."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from mlxsrv.backends import checkpoint
from mlxsrv.backends.base import EmbeddingBackend
from mlxsrv.backends.load import finished, load_embedding
from mlxsrv.backends.select import Backend
from mlxsrv.core.encoding import TokenRow
from mlxsrv.core.errors import CheckpointRefused, GenerationFailed, LoadError
from tests import tiny_encoders as tiny
from tests.tiny_encoders import FAMILIES, LONGEST, VOCABULARY, WIDTH, hidden_states, random_rows

LENGTHS = (11, 1, LONGEST, 2, 30, 30, 7)
CAUSAL = "qwen3"
POOLING = "models.Pooling"

Vectors = NDArray[np.float32]
Made = Callable[[str], tuple[Path, Any]]

pytestmark = pytest.mark.usefixtures("mlx_thread")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A family's folder and the model in it, built once; not to be changed."""
    built: dict[str, tuple[Path, Any]] = {}
    root = tmp_path_factory.mktemp("encoders")

    def make(family: str) -> tuple[Path, Any]:
        if family not in built:
            built[family] = root / family, tiny.build(root / family, family)
        return built[family]

    return make


@pytest.fixture
def bert(made: Made, tmp_path: Path) -> tuple[Path, Any]:
    """A BERT of one's own to change."""
    folder, model = made("bert")
    return Path(shutil.copytree(folder, tmp_path / "bert")), model


def load(backend: Backend, folder: Path) -> EmbeddingBackend:
    return finished(load_embedding(backend, checkpoint.read(folder)))


def rows_of(lengths: Sequence[int] = LENGTHS, *, unpooled: int = 0) -> list[TokenRow]:
    return [TokenRow(ids, unpooled=unpooled) for ids in random_rows(lengths)]


def reference(model: Any, rows: Sequence[TokenRow], mode: str = "mean") -> Vectors:
    """Every row by itself, pooled in the plainest words."""
    return np.stack([_pooled(hidden_states(model, row.ids), row.unpooled, mode) for row in rows])


def _pooled(hidden: Vectors, unpooled: int, mode: str) -> Vectors:
    places = np.arange(unpooled, len(hidden))
    kept = hidden[unpooled:].astype(np.float64)
    pooled: dict[str, NDArray[np.float64]] = {
        "cls": kept[0],
        "lasttoken": kept[-1],
        "max": kept.max(axis=0),
        "mean": kept.mean(axis=0),
        "mean_sqrt_len_tokens": kept.sum(axis=0) / np.sqrt(len(kept)),
        "weightedmean": np.average(kept, axis=0, weights=places + 1),
    }
    return pooled[mode].astype(np.float32)


def assert_same(found: Vectors, expected: Vectors) -> None:
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_vectors_are_those_of_transformers(made: Made, backend_name: Backend, family: str) -> None:
    folder, model = made(family)
    backend = load(backend_name, folder)
    assert backend.dimensions == WIDTH
    assert backend.facts.vocab_size == VOCABULARY
    assert (backend.facts.backend, backend.facts.dtype) == (backend_name, "float32")
    assert_same(backend.embed(rows_of()), reference(model, rows_of()))
    backend.close()


@pytest.mark.parametrize("family", ["bert", "embeddinggemma", "modernbert", "mpnet", "qwen3"])
def test_a_row_gives_the_same_alone_and_in_any_batch(
    made: Made, backend_name: Backend, family: str
) -> None:
    backend = load(backend_name, made(family)[0])
    rows = rows_of()
    alone = np.concatenate([backend.embed([row]) for row in rows])
    assert_same(backend.embed(rows), alone)
    assert_same(backend.embed(rows[::-1]), alone[::-1])
    assert_same(backend.embed([rows[4], rows[5]]), alone[4:6])


@pytest.mark.parametrize(
    "mode", ["cls", "lasttoken", "max", "mean_sqrt_len_tokens", "weightedmean"]
)
@pytest.mark.parametrize("unpooled", [0, 3])
def test_pooling(bert: tuple[Path, Any], backend_name: Backend, mode: str, unpooled: int) -> None:
    folder, model = bert
    tiny.sentence_transformer(folder, [(POOLING, "1_Pooling", {"pooling_mode": mode})])
    rows = rows_of((9, 4, 20), unpooled=unpooled)
    assert_same(load(backend_name, folder).embed(rows), reference(model, rows, mode))


def test_poolings_are_joined_in_the_order_of_sentence_transformers(
    bert: tuple[Path, Any], backend_name: Backend
) -> None:
    folder, model = bert
    old = {
        "word_embedding_dimension": WIDTH,
        "pooling_mode_mean_tokens": True,
        "pooling_mode_cls_token": True,
        "pooling_mode_max_tokens": False,
    }
    tiny.sentence_transformer(folder, [(POOLING, "1_Pooling", old)])
    backend = load(backend_name, folder)
    rows = rows_of()
    assert backend.dimensions == 2 * WIDTH
    parts = [reference(model, rows, mode) for mode in ("cls", "mean")]
    assert_same(backend.embed(rows), np.concatenate(parts, axis=1))


def dense(inputs: int, outputs: int, activation: str, **more: Any) -> dict[str, Any]:
    names = {"in_features": inputs, "out_features": outputs}
    return names | {"bias": True, "activation_function": f"torch.nn.{activation}"} | more


def test_heads_follow_the_pooling_in_their_order(
    bert: tuple[Path, Any], backend_name: Backend
) -> None:
    folder, model = bert
    tiny.sentence_transformer(
        folder,
        [
            (POOLING, "1_Pooling", {"pooling_mode": "mean"}),
            ("models.Dense", "2_Dense", dense(WIDTH, 24, "modules.activation.Tanh")),
            ("models.Normalize", "3_Normalize", None),
            ("models.LayerNorm", "4_LayerNorm", {"dimension": 24}),
            ("models.Dense", "5_Dense", dense(24, 16, "Identity", bias=False, use_residual=True)),
            ("models.Normalize", "6_Normalize", None),
        ],
    )
    rng = torch.Generator().manual_seed(3)
    shapes: dict[str, dict[str, tuple[int, ...]]] = {
        "2_Dense": {"linear.weight": (24, WIDTH), "linear.bias": (24,)},
        "4_LayerNorm": {"norm.weight": (24,), "norm.bias": (24,)},
        "5_Dense": {"linear.weight": (16, 24), "residual.weight": (16, 24)},
    }
    tensors = {
        place: {name: torch.randn(shape, generator=rng) for name, shape in own.items()}
        for place, own in shapes.items()
    }
    for place, own in tensors.items():
        save_file(own, folder / place / "model.safetensors")

    rows = rows_of()
    one, norm, two = tensors.values()
    vectors = torch.from_numpy(reference(model, rows))
    vectors = torch.tanh(vectors @ one["linear.weight"].T + one["linear.bias"])
    vectors = vectors / vectors.norm(dim=1, keepdim=True)
    vectors = torch.layer_norm(vectors, (24,), norm["norm.weight"], norm["norm.bias"])
    vectors = vectors @ two["linear.weight"].T + vectors @ two["residual.weight"].T

    backend = load(backend_name, folder)
    assert backend.dimensions == 16
    # The last module makes unit vectors: that is for who reads them.
    assert_same(backend.embed(rows), vectors.numpy())


def test_heads_among_the_weights_as_conversions_to_mlx_keep_them(
    made: Made, backend_name: Backend, tmp_path: Path
) -> None:
    folder, model = made("embeddinggemma")
    folder = Path(shutil.copytree(folder, tmp_path / "converted"))
    rng = torch.Generator().manual_seed(4)
    heads = [torch.randn(shape, generator=rng) for shape in ((64, WIDTH), (WIDTH, 64))]
    named = {f"dense.{place}.weight": head for place, head in enumerate(heads)}
    tiny.edit_weights(folder, lambda own: {f"model.{k}": v for k, v in own.items()} | named)
    rows = rows_of()
    expected = torch.from_numpy(reference(model, rows)) @ heads[0].T @ heads[1].T
    np.testing.assert_allclose(
        load(backend_name, folder).embed(rows), expected.numpy(), rtol=1e-3, atol=1e-2
    )
    if backend_name == "mlx":
        tiny.quantize_for_mlx(folder, bits=8)
        rounded = load("torch", tmp_path / "converted-rounded").embed(rows)
        np.testing.assert_allclose(load("mlx", folder).embed(rows), rounded, rtol=1e-3, atol=1e-2)


def test_a_language_model_without_modules_is_pooled_at_its_last_token(
    made: Made, backend_name: Backend, tmp_path: Path
) -> None:
    """As mlx-community's Qwen3-Embedding is: a name, and the architecture of a chat model."""
    folder, model = made(CAUSAL)
    folder = Path(shutil.copytree(folder, tmp_path / "Qwen3-Embedding-tiny"))
    tiny.edit(folder / "config.json", {"architectures": ["Qwen3ForCausalLM"]})
    tiny.edit_weights(folder, lambda own: {f"model.{name}": own[name] for name in own})
    rows = rows_of()
    assert checkpoint.read(folder).kind == "embedding"
    assert_same(load(backend_name, folder).embed(rows), reference(model, rows, "lasttoken"))


def test_shards(bert: tuple[Path, Any], backend_name: Backend) -> None:
    folder, model = bert
    tiny.shard(folder)
    assert_same(load(backend_name, folder).embed(rows_of()), reference(model, rows_of()))


def test_old_names_of_layer_norms(bert: tuple[Path, Any], backend_name: Backend) -> None:
    folder, model = bert
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}

    def renamed(name: str) -> str:
        for new, before in old.items():
            name = name.replace(new, before)
        return f"bert.{name}"

    tiny.edit_weights(folder, lambda own: {renamed(name): own[name] for name in own})
    assert_same(load(backend_name, folder).embed(rows_of()), reference(model, rows_of()))


@pytest.mark.parametrize("family", ["bert", "embeddinggemma", "modernbert", "nomic", "qwen3"])
@pytest.mark.parametrize("bits", [4, 8])
def test_quantised_for_mlx(made: Made, tmp_path: Path, family: str, bits: int) -> None:
    folder = Path(shutil.copytree(made(family)[0], tmp_path / family))
    tiny.quantize_for_mlx(folder, bits=bits)
    backend, rounded = load("mlx", folder), load("torch", tmp_path / f"{family}-rounded")
    assert_same(backend.embed(rows_of()), rounded.embed(rows_of()))
    assert backend.facts.memory_bytes < rounded.facts.memory_bytes / 2
    with pytest.raises(LoadError, match="quantised for MLX"):
        load("torch", folder)


def test_what_a_text_holds_changes_its_vector(made: Made, backend_name: Backend) -> None:
    """Else the comparisons above would prove nothing."""
    found = load(backend_name, made("bert")[0]).embed(rows_of((12, 12)))
    cosine = found[0] @ found[1] / np.linalg.norm(found[0]) / np.linalg.norm(found[1])
    assert abs(cosine) < 0.9


@pytest.mark.parametrize("family", ["bert", "modernbert", "nomic", "qwen3", "embeddinggemma"])
def test_missing_weights_are_named_and_never_made_up(
    made: Made, backend_name: Backend, tmp_path: Path, family: str
) -> None:
    folder = Path(shutil.copytree(made(family)[0], tmp_path / family))
    lost: list[str] = []

    def lose(own: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        lost.append(next(name for name in own if "1" in name and "norm" not in name))
        return {name: tensor for name, tensor in own.items() if name != lost[0]}

    tiny.edit_weights(folder, lose)
    with pytest.raises(LoadError, match=r"Missing 1 param|lacks 1 of its tensors"):
        load(backend_name, folder)


def test_weights_of_another_shape(bert: tuple[Path, Any], backend_name: Backend) -> None:
    tiny.edit(bert[0] / "config.json", {"intermediate_size": 96})
    with pytest.raises(LoadError, match="can't load bert"):
        load(backend_name, bert[0])


@pytest.mark.parametrize(
    ("pooling", "heads"),
    [
        ({"pooling_mode": "mean", "word_embedding_dimension": 99}, []),
        ({"pooling_mode": "mean"}, [("models.Dense", "2_Dense", dense(99, 8, "Identity"))]),
    ],
)
def test_dimensions_that_do_not_fit(
    bert: tuple[Path, Any], backend_name: Backend, pooling: Any, heads: Any
) -> None:
    tiny.sentence_transformer(bert[0], [(POOLING, "1_Pooling", pooling), *heads])
    with pytest.raises(LoadError, match="99"):
        load(backend_name, bert[0])


@pytest.mark.parametrize(
    ("file", "error"), [(None, LoadError), ("pytorch_model.bin", CheckpointRefused)]
)
def test_a_head_without_its_weights(
    bert: tuple[Path, Any], backend_name: Backend, file: str | None, error: type[Exception]
) -> None:
    folder, _ = bert
    tiny.sentence_transformer(
        folder,
        [
            (POOLING, "1_Pooling", {"pooling_mode": "mean"}),
            ("models.Dense", "2_Dense", dense(WIDTH, 8, "Identity")),
        ],
    )
    if file is not None:
        (folder / "2_Dense" / file).write_bytes(b"")
    with pytest.raises(error, match="2_Dense"):
        load(backend_name, folder)


def test_numbers_that_overflow_are_an_error_of_that_call_alone(
    bert: tuple[Path, Any], backend_name: Backend
) -> None:
    folder, model = bert

    def poison(own: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        own["embeddings.word_embeddings.weight"][20] = float("inf")
        return own

    tiny.edit_weights(folder, poison)
    backend = load(backend_name, folder)
    good = [row for row in rows_of() if 20 not in row.ids]
    with pytest.raises(GenerationFailed, match="overflowed"):
        backend.embed([*good, TokenRow((20, 21))])
    assert_same(backend.embed(good), reference(model, good))


def test_weights_that_are_no_numbers_at_all(bert: tuple[Path, Any], backend_name: Backend) -> None:
    tiny.edit_weights(bert[0], lambda own: {name: own[name] * float("nan") for name in own})
    with pytest.raises(LoadError, match="damaged"):
        load(backend_name, bert[0])


def test_a_family_that_mlx_has_no_encoder_for(bert: tuple[Path, Any]) -> None:
    for model_type in ("canine", "deberta-v2"):
        tiny.edit(bert[0] / "config.json", {"model_type": model_type})
        with pytest.raises(LoadError, match=f"no encoder for {model_type} models: serve it with"):
            load("mlx", bert[0])


def test_a_language_model_that_looks_both_ways_by_code_of_its_own(
    made: Made, backend_name: Backend, tmp_path: Path
) -> None:
    """As gte-Qwen2 does: read as an ordinary Qwen2, its vectors would be wrong in silence."""
    folder = Path(shutil.copytree(made(CAUSAL)[0], tmp_path / "gte"))
    tiny.edit(folder / "config.json", {"is_causal": False})
    with pytest.raises(LoadError, match="is_causal"):
        load(backend_name, folder)


def test_a_variant_of_nomic_bert_that_is_not_served(
    made: Made, backend_name: Backend, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(made("nomic")[0], tmp_path / "nomic"))
    tiny.edit(folder / "config.json", {"rotary_emb_interleaved": True})
    with pytest.raises(LoadError, match="rotary_emb_interleaved"):
        load(backend_name, folder)


def test_half_precision(bert: tuple[Path, Any], backend_name: Backend) -> None:
    """On the CPU it is widened, so the vectors are those of the rounded weights."""
    folder, model = bert
    tiny.edit_weights(folder, lambda own: {name: own[name].bfloat16() for name in own})
    backend = load(backend_name, folder)
    expected = reference(model, rows_of())
    found = backend.embed(rows_of())
    cosines = (found * expected).sum(axis=1) / (
        np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    )
    assert cosines.min() > 0.999
