"""Model families whose attention or state is special, against transformers' own generation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from mlxsrv.backends.pacing import PrefillPacer
from mlxsrv.backends.torch.text import TorchTextBackend
from mlxsrv.core.text import Sampling, Sequence

COMMON = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "mistral": {"sliding_window": 12},
    "gemma2": {"sliding_window": 12, "query_pre_attn_scalar": 8},  # capped scores, eager attention
    "gemma3_text": {"sliding_window": 12, "query_pre_attn_scalar": 8},
    "gpt_oss": {"num_local_experts": 4, "sliding_window": 12},  # attention sinks
    "gpt2": {"n_embd": 32, "n_head": 4, "n_layer": 3, "n_positions": 256},  # learned positions
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
    "lfm2": {"layer_types": ["conv", "full_attention", "conv", "full_attention"]},
    "qwen3_next": {  # linear attention
        "linear_num_value_heads": 4,
        "linear_num_key_heads": 2,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16,
    },
}
PROMPTS = [tuple(range(5, 5 + length)) for length in (1, 3, 20, 45)]
LENGTH = 25


def model_of(family: str) -> PreTrainedModel:
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **(COMMON | FAMILIES[family]))
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config).eval().float()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.mul_(6)  # else all greedy text is one repeated token
    return model


def expected(model: PreTrainedModel, prompt: tuple[int, ...]) -> list[int]:
    limits = {"max_new_tokens": LENGTH, "min_new_tokens": LENGTH, "do_sample": False}
    with torch.inference_mode():
        out = model.generate(torch.tensor([prompt]), pad_token_id=0, eos_token_id=None, **limits)
    tokens: list[int] = out[0].tolist()
    return tokens[len(prompt) :]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", FAMILIES)
def test_a_ragged_batch_gives_what_transformers_gives(family: str) -> None:
    model = model_of(family)
    alone = [expected(model, prompt) for prompt in PROMPTS]
    pacer = PrefillPacer(0.05, fixed=16)
    backend = TorchTextBackend(model, 300, pacer=pacer, threads=1)
    for uid, prompt in enumerate(PROMPTS):
        backend.insert(Sequence(uid, prompt, LENGTH, Sampling(temperature=0.0)))
    batched: dict[int, list[int]] = {uid: [] for uid in range(len(PROMPTS))}
    for _ in range(80):
        for out in backend.step():
            batched[out.uid].append(out.token)
    assert [batched[uid] for uid in range(len(PROMPTS))] == alone


@pytest.mark.parametrize(("lengths", "passes"), [([7], 1), ([7, 7], 1), ([7, 5], 2), ([20], 2)])
def test_first_tokens_come_with_the_last_chunk_of_prompts_that_end_together(
    lengths: list[int], passes: int
) -> None:
    model = model_of("mistral")
    fed: list[tuple[int, ...]] = []
    model.register_forward_pre_hook(
        lambda _, args, kwargs: fed.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    backend = TorchTextBackend(model, 300, pacer=PrefillPacer(0.05, fixed=16), threads=1)
    for uid, length in enumerate(lengths):
        backend.insert(Sequence(uid, PROMPTS[3][:length], LENGTH, Sampling(temperature=0.0)))
    while not (outs := backend.step()):
        pass
    assert len(fed) == passes
    got = {out.uid: out.token for out in outs}
    assert got == {uid: expected(model, PROMPTS[3][:n])[0] for uid, n in enumerate(lengths)}
