"""The tensors of published encoders, under the names of ours."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from mlxsrv.backends.mlx.memory import on_cpu
from mlxsrv.backends.mlx.weights import read_weights
from mlxsrv.backends.weights import weight_files

Arrays = dict[str, mx.array]

_MODEL = re.compile(r"^(bert|distilbert|model|mpnet|nomic_bert|roberta)\.")
_LAYER = re.compile(r"^(?:encoder\.layers?|transformer\.layer|layers)\.(\d+)\.(.+)$")

_OUTER = {
    "embeddings.word_embeddings": "words",
    "embeddings.tok_embeddings": "words",
    "embeddings.position_embeddings": "positions",
    "embeddings.token_type_embeddings": "types",
    "embeddings.LayerNorm": "norm",
    "embeddings.norm": "norm",
    "emb_ln": "norm",
    "encoder.relative_attention_bias": "relative",
    "final_norm": "final_norm",
}
_INNER = {
    "attention.self.query": "q",
    "attention.self.key": "k",
    "attention.self.value": "v",
    "attention.q_lin": "q",
    "attention.k_lin": "k",
    "attention.v_lin": "v",
    "attention.attn.q": "q",
    "attention.attn.k": "k",
    "attention.attn.v": "v",
    "self_attn.q_proj": "q",
    "self_attn.k_proj": "k",
    "self_attn.v_proj": "v",
    "attn.Wqkv": "qkv",
    "attention.output.dense": "out",
    "attention.out_lin": "out",
    "attention.attn.o": "out",
    "self_attn.o_proj": "out",
    "attn.out_proj": "out",
    "attn.Wo": "out",
    "attention.output.LayerNorm": "attention_norm",
    "attention.LayerNorm": "attention_norm",
    "sa_layer_norm": "attention_norm",
    "attn_norm": "attention_norm",
    "norm1": "attention_norm",
    "post_attention_layernorm": "attention_norm",
    "intermediate.dense": "up",
    "ffn.lin1": "up",
    "mlp.Wi": "up",
    "mlp.fc12": "gate",
    "mlp.gate_proj": "gate",
    "mlp.fc11": "factor",
    "mlp.up_proj": "factor",
    "output.dense": "down",
    "ffn.lin2": "down",
    "mlp.fc2": "down",
    "mlp.down_proj": "down",
    "mlp.Wo": "down",
    "output.LayerNorm": "mlp_norm",
    "output_layer_norm": "mlp_norm",
    "mlp_norm": "mlp_norm",
    "norm2": "mlp_norm",
    "post_mlp_layernorm": "mlp_norm",
}
_CLASSIFIER = {
    "pooler.dense": "dense",
    "classifier.dense": "dense",
    "pre_classifier": "dense",
    "head.dense": "dense",
    "head.norm": "norm",
    "classifier": "labels",
    "classifier.out_proj": "labels",
    "score": "labels",
}
_JOINED = {"qkv": ("q", "k", "v"), "up": ("gate", "factor")}
"""Layers that read the same input are one matrix here."""

GROUP_SIZE = 64
"""Weights that share a scale and a bias where they are packed here."""

_OLD_PARTS = {"gamma": "weight", "beta": "bias"}


def read_arrays(folder: Path) -> Arrays:
    """Every tensor of the checkpoint, lazily, by its published name."""
    arrays: Arrays = {}
    for file in weight_files(folder):
        arrays |= mx.load(str(file))
    return arrays


def encoder_arrays(arrays: Mapping[str, mx.array]) -> Arrays:
    """Those of `Encoder`; heads for other tasks are left out."""
    named = {}
    for name, array in arrays.items():
        path, _, part = _MODEL.sub("", name).rpartition(".")
        ours = _encoder_path(path)
        if ours is not None:
            named[f"{ours}.{_OLD_PARTS.get(part, part)}"] = array
    return _joined(named)


def classifier_arrays(arrays: Mapping[str, mx.array]) -> Arrays:
    """Those of `Classifier`."""
    named = {}
    # Some have a pooler too that is not used: what belongs to the classifier comes last.
    for name in sorted(arrays, key=lambda name: "pooler" not in name):
        path, _, part = _MODEL.sub("", name).rpartition(".")
        if path in _CLASSIFIER:
            named[f"{_CLASSIFIER[path]}.{part}"] = arrays[name]
    return named


def _encoder_path(path: str) -> str | None:
    layer = _LAYER.match(path)
    if layer is None:
        return _OUTER.get(path)
    inner = _INNER.get(layer[2])
    return None if inner is None else f"layers.{layer[1]}.{inner}"


def _joined(named: Arrays) -> Arrays:
    for name in list(named):
        path, _, part = name.rpartition(".")
        layer, _, last = path.rpartition(".")
        for whole, pieces in _JOINED.items():
            if last == pieces[0]:
                names = [f"{layer}.{piece}.{part}" for piece in pieces]
                named[f"{layer}.{whole}.{part}"] = mx.concatenate(_taken(named, names), axis=0)
    return named


def _taken(named: Arrays, names: list[str]) -> list[mx.array]:
    missing = [name for name in names if name not in named]
    if missing:
        raise ValueError(f"Missing {len(missing)} parameters: {', '.join(missing)}.")
    return [named.pop(name) for name in names]


def fill(
    model: nn.Module, arrays: Arrays, config: Mapping[str, Any], *, bits: int | None = None
) -> Generator[int, None, None]:
    """Gives `model` its weights, quantised where they are; yields the bytes read so far.

    Linear layers that are not quantised yet are packed to `bits` where given. `arrays` is
    emptied, as what is read stays in memory otherwise. Raises ValueError where one is missing,
    left over or of another shape. On the CPU all is computed in float32: its half-precision
    kernels are an order of magnitude slower.
    """
    quantization = config.get("quantization")
    if isinstance(quantization, dict):
        _quantize(model, arrays, str(quantization.get("mode", "affine")))
    model.load_weights(list(arrays.items()))
    arrays.clear()
    if on_cpu():
        model.set_dtype(mx.float32)
    if bits is not None:
        nn.quantize(model, GROUP_SIZE, bits, class_predicate=_packable)
    model.eval()
    yield from read_weights(model)


def _packable(_: str, module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) and module.weight.shape[1] % GROUP_SIZE == 0


def _quantize(model: nn.Module, arrays: Mapping[str, mx.array], mode: str) -> None:
    """Makes those layers quantised that are so in the checkpoint.

    How finely, each one's shapes tell: numbers are packed into 32-bit words, and a group of
    them shares a scale.
    """

    def packing(path: str, module: nn.Module) -> dict[str, Any] | bool:
        scales = arrays.get(f"{path}.scales")
        if scales is None or not hasattr(module, "to_quantized"):
            return False
        columns, words = module.weight.shape[-1], arrays[f"{path}.weight"].shape[-1]
        return {
            "group_size": columns // scales.shape[-1],
            "bits": words * 32 // columns,
            "mode": mode,
        }

    nn.quantize(model, class_predicate=packing)
