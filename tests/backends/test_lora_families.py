"""Adapters on model families whose layers are special, against the same models merged."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
import torch
from mlx.utils import tree_map
from transformers.pytorch_utils import Conv1D

from mlxsrv.backends.adapter import Adapter, LowRank
from mlxsrv.backends.base import TextBackend
from mlxsrv.backends.mlx.text import MlxTextBackend
from mlxsrv.backends.pacing import PrefillPacer
from mlxsrv.backends.torch.text import TorchTextBackend
from mlxsrv.core.errors import InvalidRequest
from mlxsrv.core.text import Sampling, Sequence
from tests.backends.test_torch_text import COMMON, FAMILIES, PROMPTS, model_of

LENGTH = 20
SEQUENCES = [
    Sequence(uid, prompt, LENGTH, Sampling(temperature=0.0), adapter="it" if uid % 2 else None)
    for uid, prompt in enumerate(PROMPTS * 2)
]
ON_MLX: dict[str, dict[str, Any]] = {
    "gpt2": {"n_ctx": 256, "layer_norm_epsilon": 1e-5},
    "gemma3_text": {"sliding_window_pattern": 2},
    "qwen3_moe": {"decoder_sparse_step": 1, "mlp_only_layers": [], "norm_topk_prob": True},
    "qwen3_next": {
        "linear_conv_kernel_dim": 4,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "norm_topk_prob": True,
        "partial_rotary_factor": 0.5,
        "full_attention_interval": 2,
    },
}


def pacer() -> PrefillPacer:
    return PrefillPacer(0.05, fixed=16)


def texts(backend: TextBackend, sequences: list[Sequence]) -> dict[int, list[int]]:
    made: dict[int, list[int]] = {sequence.uid: [] for sequence in sequences}
    for sequence in sequences:
        backend.insert(sequence)
    while any(len(tokens) < LENGTH for tokens in made.values()):
        for out in backend.step():
            made[out.uid].append(out.token)
    return made


def assert_mixes(backend: TextBackend, plain: TextBackend, merged: TextBackend) -> None:
    """Every other row runs with the adapter, as if its weights were merged."""
    without = [replace(sequence, adapter=None) for sequence in SEQUENCES]
    base, changed = texts(plain, without), texts(merged, without)
    assert all(base[uid] != changed[uid] for uid in base)
    mixed = texts(backend, SEQUENCES)
    assert mixed == {s.uid: (changed if s.adapter else base)[s.uid] for s in SEQUENCES}


def low_rank(rng: np.random.Generator, inputs: int, outputs: int) -> LowRank:
    a, b = rng.standard_normal((3, inputs)), rng.standard_normal((outputs, 3))
    return LowRank((a * inputs**-0.5).astype(np.float32), (b * 0.3).astype(np.float32), 1.0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", FAMILIES)
def test_on_torch(family: str) -> None:
    """Every linear layer is changed, the transposed ones of GPT-2 too. Where the output layer
    is the embedding, merging would change that as well."""
    rng = np.random.default_rng(0)
    merged, layers = model_of(family), {}
    for path, module in merged.named_modules():
        if isinstance(module, torch.nn.Linear | Conv1D) and path != "lm_head":
            weight: torch.Tensor = module.weight if isinstance(module, Conv1D) else module.weight.T
            layers[path] = low_rank(rng, *weight.shape)
            weight.data += torch.tensor((layers[path].b @ layers[path].a).T)
    plain, mixed, changed = (
        TorchTextBackend(model, 300, pacer=pacer(), threads=1)
        for model in (model_of(family), model_of(family), merged)
    )
    mixed.add_adapter("it", Adapter(Path("it"), layers))
    assert_mixes(mixed, plain, changed)


def on_mlx(model: nn.Module) -> MlxTextBackend:
    return MlxTextBackend(model, 300, pacer=pacer(), padding_allowed=1 << 30)


def mlx_model_of(family: str) -> nn.Module:
    mx.random.seed(0)
    module = import_module(f"mlx_lm.models.{family}")
    settings = {"rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": False}
    config = COMMON | settings | FAMILIES[family] | ON_MLX[family] | {"model_type": family}
    model = module.Model(module.ModelArgs.from_dict(config))
    model.update(tree_map(lambda p: p * 6 if p.ndim == 2 else p, model.parameters()))
    return model


@pytest.mark.slow
@pytest.mark.parametrize("family", ON_MLX)
def test_on_mlx(family: str) -> None:
    rng = np.random.default_rng(0)
    merged, layers = mlx_model_of(family), {}
    for path, module in merged.named_modules():
        if isinstance(module, nn.Linear):
            layers[path] = low_rank(rng, *reversed(module.weight.shape))
            module.weight = module.weight + mx.array(layers[path].b @ layers[path].a)
    mixed = on_mlx(mlx_model_of(family))
    mixed.add_adapter("it", Adapter(Path("it"), layers))
    assert_mixes(mixed, on_mlx(mlx_model_of(family)), on_mlx(merged))


def test_a_model_that_uses_a_layer_in_its_own_way_is_left_as_it_was() -> None:
    """One that reads a layer's weights itself would miss the adapter, or fail in the batch."""

    class Peculiar(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(300, 8)
            self.head = nn.Linear(8, 300, bias=False)

        def __call__(self, tokens: mx.array, cache: Any = None) -> mx.array:
            return self.embedding(tokens) @ self.head.weight.T

    model = Peculiar()
    backend = on_mlx(model)
    layers = {"head": low_rank(np.random.default_rng(0), 8, 300)}
    with pytest.raises(InvalidRequest, match="can't run with the adapter"):
        backend.add_adapter("it", Adapter(Path("it"), layers))
    assert isinstance(model.head, nn.Linear)
    assert model(mx.array([[1]])).shape == (1, 1, 300)
