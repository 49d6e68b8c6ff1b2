"""Reading published LoRA adapters: what is read, and what is refused and why."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlxsrv.backends.adapter import Adapter, LowRank, fitted
from mlxsrv.backends.adapter_config import MAX_JSON_BYTES
from mlxsrv.backends.adapter_files import read_adapter
from mlxsrv.core.errors import InvalidRequest
from tests.tiny_adapters import Matrices, Recipe, matrices, sizes, write_mlx_lm, write_peft
from tests.tiny_models import Shape

RECIPE = Recipe(targets=("q_proj", "down_proj"))
Q = "model.layers.0.self_attn.q_proj"
PEFT_Q = f"base_model.model.{Q}"


def assert_reads(folder: Path, expected: Matrices, scale: float) -> None:
    adapter = read_adapter(folder)
    assert adapter.layers.keys() == expected.keys()
    for path, (a, b) in expected.items():
        assert np.array_equal(adapter.layers[path].a, a)
        assert np.array_equal(adapter.layers[path].b, b)
        assert adapter.layers[path].scale == pytest.approx(scale)


@pytest.mark.parametrize("infix", ["", ".default"])
def test_peft(tmp_path: Path, infix: str) -> None:
    write_peft(tmp_path, RECIPE, infix=infix)
    assert_reads(tmp_path, matrices(RECIPE), 2.0)


def test_pefts_copy_of_the_output_layer_is_left_where_it_is(tmp_path: Path) -> None:
    recipe = Recipe(targets=("lm_head",))
    copy = {"base_model.model.lm_head.base_layer.weight": zeros(320, 32)}
    assert_reads(write_peft(tmp_path, recipe, tensors=copy), matrices(recipe), 2.0)


def test_mlx_lm(tmp_path: Path) -> None:
    assert_reads(write_mlx_lm(tmp_path, RECIPE), matrices(RECIPE), 2.0)


def test_it_knows_its_rank_and_size(tmp_path: Path) -> None:
    adapter = read_adapter(write_peft(tmp_path, Recipe(rank=3, targets=("q_proj",))))
    assert (adapter.rank, adapter.nbytes) == (3, 2 * 2 * 3 * 32 * 4)


def test_a_request_can_change_the_strength(tmp_path: Path) -> None:
    write_peft(tmp_path, RECIPE)
    assert read_adapter(tmp_path, scale=0.25).layers[Q].scale == pytest.approx(0.5)
    for scale in (math.nan, math.inf):
        with pytest.raises(InvalidRequest) as caught:
            read_adapter(tmp_path, scale=scale)
        assert caught.value.param == "scale"


def test_rank_stabilised_adapters_have_their_own_scale(tmp_path: Path) -> None:
    write_peft(tmp_path, RECIPE, config={"use_rslora": True, "lora_alpha": 6})
    assert read_adapter(tmp_path).layers[Q].scale == pytest.approx(6 / 2)


@pytest.mark.parametrize(
    "pattern", ["q_proj", "self_attn.q_proj", Q, r"layers\.\d.self_attn.q_proj", r".*\.(q|k)_proj"]
)
def test_layers_can_differ_in_rank_and_scale(tmp_path: Path, pattern: str) -> None:
    """The patterns are those that PEFT reads: the end of a path, as a regular expression."""
    config = {"r": 99, "rank_pattern": {pattern: 4, "(q|down)_proj": 4}, "lora_alpha": 8}
    write_peft(tmp_path, RECIPE, config={**config, "alpha_pattern": {pattern: 20}})
    layers = read_adapter(tmp_path).layers
    assert layers[Q].scale == pytest.approx(5)
    assert layers["model.layers.0.mlp.down_proj"].scale == pytest.approx(2)


@pytest.mark.parametrize("stored", ["F16", "BF16"])
def test_half_precision_is_widened(tmp_path: Path, stored: str) -> None:
    """0.15625 is 5/32 and -1.5 is -3/2: exact in either."""
    exact = np.array([[0.15625, -1.5] * 16] * 4, np.float32)
    narrow = exact.astype("<f2") if stored == "F16" else exact.view("<u2")[:, 1::2]
    write_tensors(
        write_peft(tmp_path, RECIPE).joinpath("adapter_model.safetensors"),
        {
            f"{PEFT_Q}.lora_A.weight": (stored, (4, 32), np.ascontiguousarray(narrow).tobytes()),
            f"{PEFT_Q}.lora_B.weight": (stored, (32, 4), bytes(32 * 4 * 2)),
        },
    )
    assert np.array_equal(read_adapter(tmp_path).layers[Q].a, exact)


def write_tensors(file: Path, tensors: dict[str, tuple[str, tuple[int, ...], bytes]]) -> None:
    """A safetensors file of any content; the real writer refuses what is not valid."""
    header, data = {}, b""
    for name, (dtype, shape, raw) in tensors.items():
        offsets = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        data += raw
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + data)


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


REFUSED_PEFT: dict[str, dict[str, Any]] = {
    "is of DoRA": {"tensors": {f"{PEFT_Q}.lora_magnitude_vector.weight": zeros(32)}},
    "trained with use_dora": {"config": {"use_dora": True}},
    "trained with target_parameters": {"config": {"target_parameters": ["mlp.experts"]}},
    "PEFT's type IA3": {"config": {"peft_type": "IA3"}},
    "weights that pissa_niter_4 changed": {"config": {"init_lora_weights": "pissa_niter_4"}},
    "q_proj.bias is a trained bias": {"tensors": {f"{PEFT_Q}.bias": zeros(32)}},
    "lora_B.bias is a trained bias": {"tensors": {f"{PEFT_Q}.lora_B.bias": zeros(32)}},
    "lm_head.weight is a trained weight (modules_to_save": {
        "tensors": {"base_model.model.lm_head.weight": zeros(320, 32)}
    },
    "is LoRA of an embedding": {
        "tensors": {"base_model.model.model.embed_tokens.lora_embedding_A": zeros(4, 320)}
    },
    "belongs to a convolution": {"tensors": {f"{PEFT_Q}x.lora_A.weight": zeros(4, 3, 3, 3)}},
    "changes the experts": {
        "tensors": {"base_model.model.model.layers.0.mlp.experts.1.up.lora_A.weight": zeros(4, 9)}
    },
    "q_projx has a matrix A but no matrix B": {
        "tensors": {f"{PEFT_Q}x.lora_A.weight": zeros(4, 32)}
    },
    "q_projx has a matrix B but no matrix A": {
        "tensors": {f"{PEFT_Q}x.lora_B.weight": zeros(32, 4)}
    },
    "q_proj has two matrices A": {"tensors": {f"{PEFT_Q}.lora_A.other.weight": zeros(4, 32)}},
    "q_proj differ: 3 in its matrix A, 4 in B, 4 in adapter_config.json": {
        "tensors": {f"{PEFT_Q}.lora_A.weight": zeros(3, 32)}
    },
    "differ: 4 in its matrix A, 4 in B, 5 in adapter_config.json": {"config": {"r": 5}},
    "r in adapter_config.json should be a rank from 1 to 512": {"config": {"r": 0}},
    "should be a rank": {"config": {"r": 513}},
    "should be a rank from": {"config": {"r": "4"}},
    "should be a rank from 1": {"config": {"rank_pattern": {"q_proj": True}}},
    "rank_pattern in adapter_config.json should be an object": {"config": {"rank_pattern": [1]}},
    "lora_alpha in adapter_config.json should be a number": {"config": {"lora_alpha": math.nan}},
    "should be a number": {"config": {"lora_alpha": 10**400}},
    "expression that is too complex": {"config": {"alpha_pattern": {"(a+)+": 1}}},
    "an invalid expression: q_proj)": {"config": {"alpha_pattern": {"q_proj)": 1}}},
    "holds values that are not finite": {
        "tensors": {f"{PEFT_Q}.lora_A.weight": np.full((4, 32), np.nan, np.float32)}
    },
    "values that are not finite": {
        "tensors": {f"{PEFT_Q}.lora_B.weight": np.full((32, 4), np.inf, np.float32)}
    },
    "or far too large": {
        "tensors": {f"{PEFT_Q}.lora_B.weight": np.full((32, 4), 65600, np.float32)}
    },
    "with a scale of 250000 holds values far too large": {"config": {"lora_alpha": 999_999}},
    "is stored as F64": {"tensors": {f"{PEFT_Q}.lora_A.weight": np.zeros((4, 32))}},
}
REFUSED_MLX_LM: dict[str, dict[str, Any]] = {
    "mlx-lm's type dora": {"config": {"fine_tune_type": "dora"}},
    "mlx-lm's type full": {"config": {"fine_tune_type": "full"}},
    "is of DoRA": {"tensors": {f"{Q}.m": zeros(32)}},
    "changes the experts": {
        "tensors": {"model.layers.0.mlp.switch_mlp.up_proj.lora_a": zeros(8, 4, 32)}
    },
    "lora_parameters in adapter_config.json should be an object": {
        "config": {"lora_parameters": 8}
    },
    "lora_parameters.rank in adapter_config.json": {"config": {"lora_parameters": {"scale": 1}}},
    "lora_parameters.scale in adapter_config.json": {"config": {"lora_parameters": {"rank": 4}}},
    "q_projx has a matrix A but no": {"tensors": {f"{Q}x.lora_a": zeros(32, 4)}},
}


@pytest.mark.parametrize("message", REFUSED_PEFT)
def test_what_peft_wrote_and_is_not_served_is_refused(tmp_path: Path, message: str) -> None:
    refuses(write_peft(tmp_path, RECIPE, **REFUSED_PEFT[message]), message)


@pytest.mark.parametrize("message", REFUSED_MLX_LM)
def test_what_mlx_lm_wrote_and_is_not_served_is_refused(tmp_path: Path, message: str) -> None:
    refuses(write_mlx_lm(tmp_path, RECIPE, **REFUSED_MLX_LM[message]), message)


def refuses(folder: Path, message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_adapter(folder)
    assert message in caught.value.message
    assert caught.value.param == "lora_path"


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def pickled(folder: Path) -> None:
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")


def config(content: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "adapter_config.json").write_text(content)

    return write


def weights(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        file = folder / "adapter_model.safetensors"
        file.write_bytes(change(file.read_bytes()))

    return write


def empty(folder: Path) -> None:
    write_tensors(folder / "adapter_model.safetensors", {})


DAMAGE: dict[str, Callable[[Path], None]] = {
    "no such adapter folder": shutil.rmtree,
    "it has no adapter_config.json": without("adapter_config.json"),
    "has no adapter_model.safetensors": without("adapter_model.safetensors"),
    "only pickled weights": pickled,
    "neither PEFT's peft_type nor mlx-lm's lora_parameters": config('{"r": 8}'),
    "is not valid JSON": config("{"),
    "not valid JSON": config("[" * 100_000),
    "should hold a JSON object": config("[]"),
    "is shorter than its header says": weights(lambda raw: raw[:-1]),
    "shorter than its header says": weights(lambda raw: raw[:5]),
    "is longer than its header says": weights(lambda raw: raw + b"x"),
    "header is not JSON": weights(lambda raw: raw[:8] + b"x" + raw[9:]),
    "the header of adapter_model.safetensors is too long": weights(
        lambda raw: (MAX_JSON_BYTES + 1).to_bytes(8, "little") + raw[8:]
    ),
    "holds no LoRA matrices": empty,
}


@pytest.mark.parametrize("message", DAMAGE)
def test_what_is_damaged_is_refused(tmp_path: Path, message: str) -> None:
    folder = write_peft(tmp_path / "adapter", RECIPE)
    DAMAGE[message](folder)
    refuses(folder, message)


def test_a_folder_that_can_not_be_named_is_refused(tmp_path: Path) -> None:
    refuses(tmp_path / ("x" * 5000), "can't read")
    refuses(tmp_path / "a\0b", "no such adapter folder")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    small = Shape(hidden=4, layers=1, heads=1, kv_heads=1, intermediate=4, vocabulary=8)
    return write_peft(tmp_path_factory.mktemp("whole"), Recipe(rank=2), small)


@given(data=st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_file_is_refused_or_still_an_adapter(
    whole: Path, tmp_path: Path, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(["adapter_config.json", "adapter_model.safetensors"]))
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    raw = bytearray((whole / name).read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(raw) - 1), min_size=1, max_size=3)):
        raw[place] = data.draw(st.integers(0, 255))
    (tmp_path / name).write_bytes(raw[: data.draw(st.integers(0, len(raw)))] or raw)
    try:
        adapter = read_adapter(tmp_path)
    except InvalidRequest:
        return
    for layer in adapter.layers.values():
        assert layer.a.shape[0] == layer.b.shape[1] == layer.rank
        assert np.isfinite(layer.a).all()
        assert np.isfinite(layer.b).all()


# How an adapter's layers find those of the model


def adapter_of(*paths: str) -> Adapter:
    layer = LowRank(zeros(1, 32), zeros(32, 1), 1.0)
    return Adapter(Path("adapter"), dict.fromkeys(paths, layer))


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("model.layers.0.q", "model.layers.0.q"),
        ("model.language_model.layers.0.q", "language_model.model.layers.0.q"),
        ("model.layers.0.q", "model.language_model.layers.0.q"),
        ("transformer.h.0.attn.c_attn", "model.h.0.attn.c_attn"),
    ],
)
def test_a_layer_is_found_by_either_librarys_name(theirs: str, ours: str) -> None:
    """The same layer of a model is called otherwise in transformers, old and new, and MLX."""
    linears = {ours: (32, 32), "model.visual.layers.0.q": (32, 32), "lm_head": (32, 320)}
    assert fitted(adapter_of(theirs), linears).keys() == {ours}


@pytest.mark.parametrize(
    "paths",
    [
        ("model.visual.layers.0.q",),
        ("model.layers.9.q",),
        ("layers",),
        ("model",),
        ("model.layers.0.q", "language_model.layers.0.q"),
    ],
)
def test_what_the_model_does_not_have_is_refused(paths: tuple[str, ...]) -> None:
    with pytest.raises(InvalidRequest, match="made for another base"):
        fitted(adapter_of(*paths), {"model.layers.0.q": (32, 32)})


def test_a_name_that_could_mean_two_layers_is_refused() -> None:
    twice = {"model.layers.0.q": (32, 32), "text_model.layers.0.q": (32, 32)}
    with pytest.raises(InvalidRequest):
        fitted(adapter_of("transformer.layers.0.q"), twice)
    assert fitted(adapter_of("text_model.layers.0.q"), twice).keys() == {"text_model.layers.0.q"}


def test_every_layer_of_a_model_can_be_changed(tmp_path: Path) -> None:
    recipe = Recipe(targets=("_proj", "lm_head"))
    adapter = read_adapter(write_peft(tmp_path, recipe))
    assert fitted(adapter, sizes(Shape())).keys() == sizes(Shape()).keys()
