"""Which checkpoints embed and which rerank."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlxsrv.backends import checkpoint
from mlxsrv.core.kinds import Kind
from tests.checkpoints import LLAMA, model_files

QWEN = {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]}
ROBERTA = {
    "model_type": "xlm-roberta",
    "architectures": ["XLMRobertaModel"],
    "max_position_embeddings": 514,
    "pad_token_id": 1,
}


def make(folder: Path, config: dict[str, Any], **more: object) -> checkpoint.Checkpoint:
    folder.mkdir(parents=True)
    for name, content in model_files(config).items():
        (folder / name).write_bytes(content)
    for name, value in more.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    return checkpoint.read(folder)


@pytest.mark.parametrize(
    ("name", "config", "kind"),
    [
        ("Qwen3-Reranker-0.6B", QWEN, Kind.RERANK),
        ("qwen3-reranker-4bit", QWEN, Kind.RERANK),
        ("Qwen3-Embedding-0.6B-4bit-DWQ", QWEN, Kind.EMBEDDING),
        ("Qwen3-0.6B", QWEN, Kind.CHAT),
        ("models--Qwen--Qwen3-Reranker-4B/snapshots/5fa94", QWEN, Kind.RERANK),
        ("rerankers/Qwen3-0.6B", QWEN, Kind.CHAT),
        ("any", QWEN | {"architectures": ["Qwen3Model"]}, Kind.EMBEDDING),
        (
            "any",
            {"model_type": "gemma3_text", "architectures": ["Gemma3TextModel"]},
            Kind.EMBEDDING,
        ),
        (
            "any",
            {"model_type": "qwen3", "architectures": ["Qwen3ForSequenceClassification"]},
            "rerank",
        ),
        ("gpt2", {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}, Kind.CHAT),
        ("any", {"model_type": "gte", "architectures": ["GteModel"]}, Kind.EMBEDDING),
        ("any", {"model_type": "bert", "architectures": ["BertForMaskedLM"]}, Kind.EMBEDDING),
        (
            "any",
            {"model_type": "bert", "architectures": ["BertForSequenceClassification"]},
            "rerank",
        ),
        (
            "Qwen3-VL-Embedding",
            {"model_type": "qwen3_vl", "architectures": ["Qwen3VLModel"], "vision_config": {}},
            Kind.VISION,
        ),
    ],
)
def test_by_name_and_architecture(
    tmp_path: Path, name: str, config: dict[str, Any], kind: str
) -> None:
    assert make(tmp_path / name, config).kind == kind


@pytest.mark.parametrize(
    ("saved", "kind"),
    [
        ({}, Kind.EMBEDDING),
        ({"model_type": "SentenceTransformer"}, Kind.EMBEDDING),
        ({"model_type": "CrossEncoder"}, Kind.RERANK),
    ],
)
def test_by_the_class_that_saved_it(tmp_path: Path, saved: dict[str, Any], kind: Kind) -> None:
    found = make(tmp_path / "m", LLAMA, modules=[], config_sentence_transformers=saved)
    assert found.kind is kind


@pytest.mark.parametrize(
    ("config", "bounds", "length"),
    [
        (ROBERTA, {}, 512),
        (ROBERTA | {"pad_token_id": 0}, {}, 513),
        (ROBERTA, {"model_max_length": 128}, 128),
        (ROBERTA | {"model_type": "mpnet"}, {}, 512),
        (ROBERTA | {"model_type": "bert"}, {}, 514),
        (
            {"model_type": "nomic_bert", "architectures": ["NomicBertModel"], "n_positions": 8192},
            {},
            8192,
        ),
    ],
)
def test_positions_that_a_text_may_take(
    tmp_path: Path, config: dict[str, Any], bounds: dict[str, Any], length: int
) -> None:
    assert make(tmp_path / "m", config, tokenizer_config=bounds).context_length == length
