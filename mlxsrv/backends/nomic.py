"""Nomic BERT's configuration: published in GPT-2's words, read in those of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlxsrv.core.errors import LoadError

_NAMES = {
    "n_embd": "hidden_size",
    "n_head": "num_attention_heads",
    "n_inner": "intermediate_size",
    "n_layer": "num_hidden_layers",
    "n_positions": "max_position_embeddings",
    "layer_norm_epsilon": "layer_norm_eps",
    "rotary_emb_base": "rope_theta",
}
_KEPT = ("vocab_size", "type_vocab_size", "pad_token_id", "num_labels", "id2label", "label2id")

_AS_PUBLISHED = {
    "activation_function": "swiglu",
    "causal": False,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "num_experts": 0,
    "parallel_block": False,
    "prenorm": False,
    "qkv_proj_bias": False,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None,
    "rotary_scaling_factor": None,
    "use_rms_norm": False,
}
"""What the text embedders have; the libraries have no other variant."""


def native_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """`config` in the words of transformers. Raises LoadError for other variants."""
    if "n_embd" not in config:
        return dict(config)
    for key, expected in _AS_PUBLISHED.items():
        if config.get(key) not in {expected, None}:
            raise LoadError(f"a Nomic BERT with {key} = {config[key]!r} is not served")
    renamed = {new: config[old] for old, new in _NAMES.items() if config.get(old) is not None}
    renamed.setdefault("intermediate_size", 4 * int(config["n_embd"]))
    kept = {key: config[key] for key in _KEPT if key in config}
    return {"model_type": "nomic_bert", "hidden_act": "silu", **kept, **renamed}
