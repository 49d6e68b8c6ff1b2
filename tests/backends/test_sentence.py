"""What the files beside an embedding model's weights say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlxsrv.backends import checkpoint
from mlxsrv.backends.encoding import Pooling
from mlxsrv.backends.sentence import Dense, LayerNorm, Normalize, SentenceSettings, read_sentence
from mlxsrv.core.errors import LoadError
from tests.checkpoints import model_files, safetensors

BERT = {"model_type": "bert", "architectures": ["BertModel"], "hidden_size": 16}
MODULES = "sentence_transformers.models."


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in model_files(BERT).items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def write(file: Path, value: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value))


def modules(folder: Path, *listed: tuple[str, str]) -> None:
    write(folder / "modules.json", [{"type": kind, "path": path} for kind, path in listed])


def read(folder: Path) -> SentenceSettings:
    return read_sentence(checkpoint.read(folder))


def test_all_that_is_said(folder: Path) -> None:
    modules(
        folder,
        (f"{MODULES}Transformer", ""),
        (f"{MODULES}Pooling", "1_Pooling"),
        (f"{MODULES}Dropout", "2_Dropout"),
        (f"{MODULES}Dense", "3_Dense"),
        (f"{MODULES}LayerNorm", "4_LayerNorm"),
        (f"{MODULES}Normalize", "5_Normalize"),
    )
    write(
        folder / "1_Pooling/config.json",
        {"word_embedding_dimension": 16, "pooling_mode_cls_token": True, "include_prompt": False},
    )
    write(
        folder / "3_Dense/config.json",
        {
            "in_features": 16,
            "out_features": 8,
            "bias": False,
            "activation_function": "torch.nn.modules.linear.Identity",
        },
    )
    write(folder / "4_LayerNorm/config.json", {"dimension": 8})
    write(
        folder / "config_sentence_transformers.json",
        {"prompts": {"query": "query: ", "document": ""}, "default_prompt_name": "query"},
    )
    write(folder / "sentence_bert_config.json", {"max_seq_length": 256, "do_lower_case": True})
    assert read(folder) == SentenceSettings(
        pooling=(Pooling.CLS,),
        heads=(
            Dense(folder / "3_Dense", 16, 8, bias=False, activation="Identity"),
            LayerNorm(folder / "4_LayerNorm", 8),
        ),
        normalized=True,
        include_prompt=False,
        width=16,
        prompts={"query": "query: ", "document": ""},
        default_prompt_name="query",
        max_seq_length=256,
        lowercase=True,
    )
    assert read(folder).dimensions(16) == 8


@pytest.mark.parametrize(
    ("pooling", "modes"),
    [
        ({}, ["mean"]),
        ({"pooling_mode": "lasttoken"}, ["lasttoken"]),
        ({"pooling_mode": ["max", "cls"]}, ["max", "cls"]),
        ({"pooling_mode_mean_tokens": False}, ["mean"]),
        ({"pooling_mode_lasttoken": True}, ["lasttoken"]),
        ({"pooling_mode_weightedmean_tokens": True}, ["weightedmean"]),
        ({"pooling_mode_max_tokens": True, "pooling_mode_cls_token": True}, ["cls", "max"]),
        ({"pooling_mode_mean_sqrt_len_tokens": True}, ["mean_sqrt_len_tokens"]),
        # The new key wins, as in sentence-transformers.
        ({"pooling_mode": "cls", "pooling_mode_mean_tokens": True}, ["cls"]),
    ],
)
def test_pooling_in_old_and_new_words(
    folder: Path, pooling: dict[str, Any], modes: list[str]
) -> None:
    modules(folder, (f"{MODULES}Transformer", ""), (f"{MODULES}Pooling", "1_Pooling"))
    write(folder / "1_Pooling/config.json", pooling)
    found = read(folder)
    assert found.pooling == tuple(modes)
    assert found.dimensions(16) == 16 * len(modes)


def test_names_of_modules_since_version_5(folder: Path) -> None:
    modules(
        folder,
        ("sentence_transformers.base.modules.transformer.Transformer", ""),
        ("sentence_transformers.sentence_transformer.modules.pooling.Pooling", "1_Pooling"),
        ("sentence_transformers.base.modules.normalize.Normalize", "2_Normalize"),
    )
    write(folder / "1_Pooling/config.json", {"embedding_dimension": 16, "pooling_mode": "cls"})
    found = read(folder)
    assert (found.pooling, found.width, found.normalized) == ((Pooling.CLS,), 16, True)


def test_scaling_to_unit_length_before_another_head_is_kept(folder: Path) -> None:
    modules(
        folder,
        (f"{MODULES}Pooling", "1_Pooling"),
        (f"{MODULES}Normalize", "2_Normalize"),
        (f"{MODULES}LayerNorm", "3_LayerNorm"),
    )
    write(folder / "1_Pooling/config.json", {})
    write(folder / "3_LayerNorm/config.json", {"dimension": 16})
    found = read(folder)
    assert found.heads == (Normalize(), LayerNorm(folder / "3_LayerNorm", 16))
    assert not found.normalized


@pytest.mark.parametrize(
    ("config", "modes"),
    [
        (BERT, ["mean"]),
        ({"model_type": "qwen3", "architectures": ["Qwen3Model"]}, ["mean"]),
        ({"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]}, ["lasttoken"]),
        (
            {
                "model_type": "gemma3_text",
                "architectures": ["Gemma3ForCausalLM"],
                "use_bidirectional_attention": True,
            },
            ["mean"],
        ),
    ],
)
def test_without_modules(folder: Path, config: dict[str, Any], modes: list[str]) -> None:
    """As sentence-transformers does: a language model has read all only at the last token."""
    write(folder / "config.json", config)
    assert read(folder).pooling == tuple(modes)


def test_pooling_alone_may_be_left_of_the_modules(folder: Path) -> None:
    write(folder / "1_Pooling/config.json", {"pooling_mode_cls_token": True})
    assert read(folder).pooling == (Pooling.CLS,)


def test_heads_among_the_weights(folder: Path) -> None:
    tensors = {"dense.0.weight": ("F32", (64, 16)), "dense.1.weight": ("F32", (8, 64))}
    (folder / "model.safetensors").write_bytes(safetensors(tensors))
    assert read(folder).heads == (
        Dense(folder, 16, 64, bias=False, linear="dense.0"),
        Dense(folder, 64, 8, bias=False, linear="dense.1"),
    )


POOLED = (f"{MODULES}Pooling", "1_Pooling")


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ([POOLED, (f"{MODULES}WordWeights", "2_WordWeights")], "a WordWeights module"),
        ([(f"{MODULES}StaticEmbedding", "")], "a StaticEmbedding module"),
        ([(f"{MODULES}Dense", "2_Dense"), POOLED], "a Dense module"),
        ([POOLED, POOLED], "a Pooling module"),
        ([("custom_st.Transformer", ""), POOLED], "code is never run"),
        ([(f"{MODULES}Transformer", "0_Transformer"), POOLED], "serve that folder"),
        ([(f"{MODULES}Transformer", "")], "no Pooling module"),
        ([(f"{MODULES}Pooling", "../1_Pooling")], "outside its folder"),
        ([(f"{MODULES}Pooling", "/etc")], "outside its folder"),
    ],
)
def test_modules_that_are_not_served(
    folder: Path, listed: list[tuple[str, str]], message: str
) -> None:
    modules(folder, *listed)
    write(folder / "1_Pooling/config.json", {})
    with pytest.raises(LoadError, match=message):
        read(folder)


@pytest.mark.parametrize(
    ("dense", "message"),
    [
        ({"in_features": 16}, "not a Dense module"),
        ({"in_features": "many", "out_features": 8}, "not a Dense module"),
        (
            {"in_features": 16, "out_features": 8, "activation_function": "torch.nn.Softplus"},
            "not served: torch.nn.Softplus",
        ),
        (
            {"in_features": 16, "out_features": 8, "activation_function": "os.Tanh"},
            "not served: os.Tanh",
        ),
        (
            {"in_features": 16, "out_features": 8, "module_input_name": "token_embeddings"},
            "works on tokens",
        ),
    ],
)
def test_dense_modules_that_are_not_served(
    folder: Path, dense: dict[str, Any], message: str
) -> None:
    modules(folder, POOLED, (f"{MODULES}Dense", "2_Dense"))
    write(folder / "1_Pooling/config.json", {})
    write(folder / "2_Dense/config.json", dense)
    with pytest.raises(LoadError, match=message):
        read(folder)


@pytest.mark.parametrize("listed", [{}, [{}], ["Pooling"], [{"type": "x"}], 3])
def test_a_damaged_list_of_modules(folder: Path, listed: object) -> None:
    write(folder / "modules.json", listed)
    with pytest.raises(LoadError):
        read(folder)


@pytest.mark.parametrize("mode", ["median", ["mean", "median"], 3])
def test_an_unknown_pooling(folder: Path, mode: object) -> None:
    write(folder / "1_Pooling/config.json", {"pooling_mode": mode})
    with pytest.raises(LoadError, match="not served"):
        read(folder)


@pytest.mark.parametrize(
    ("settings", "width"),
    [
        (SentenceSettings((Pooling.MEAN,), width=8), 16),
        (SentenceSettings((Pooling.MEAN,), heads=(Dense(Path(), 8, 4, bias=True),)), 16),
        (SentenceSettings((Pooling.MEAN, Pooling.CLS), heads=(LayerNorm(Path(), 16),)), 16),
    ],
)
def test_parts_that_do_not_fit(settings: SentenceSettings, width: int) -> None:
    with pytest.raises(LoadError, match="dimensions"):
        settings.dimensions(width)


def test_a_default_prompt_that_is_not_there_and_odd_prompts(folder: Path) -> None:
    write(
        folder / "config_sentence_transformers.json",
        {"prompts": {"query": None, "s2s": "Same: "}, "default_prompt_name": "query"},
    )
    found = read(folder)
    assert (dict(found.prompts), found.default_prompt_name) == ({"s2s": "Same: "}, None)
