"""Language models as encoders, with mlx-lm's models: Qwen3-Embedding, EmbeddingGemma, …"""

from __future__ import annotations

import importlib
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.utils import load_model, maybe_set_recommended_wired_limit

from mlxsrv.backends.encoding import Batch
from mlxsrv.backends.mlx.encoder import attention_mask
from mlxsrv.backends.mlx.encoder_weights import Arrays
from mlxsrv.backends.mlx.memory import on_cpu
from mlxsrv.backends.mlx.weights import read_weights
from mlxsrv.backends.sentence import both_ways
from mlxsrv.core.errors import LoadError

_SAME_AS = {"mistral": "llama"}
"""Model types that mlx-lm reads with the model of another."""

_OTHER_HEADS = ("dense.", "lm_head.", "score.")


class LanguageEncoder:
    """The layers of a causal language model: padding behind a text changes nothing in it."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._backbone = model.model

    def __call__(self, batch: Batch) -> mx.array:
        """Hidden states [rows, width of the batch, dimensions]."""
        return self._backbone(mx.array(batch.ids))


class TwoWayGemma:
    """Gemma 3 that looks both ways, as EmbeddingGemma does (arXiv:2509.20354)."""

    def __init__(self, model: nn.Module, window: int) -> None:
        self.model = model
        self._backbone = model.model
        self._window = window // 2

    def __call__(self, batch: Batch) -> mx.array:
        width = batch.ids.shape[1]
        whole, near = (
            attention_mask(batch.real, width, window, None) for window in (None, self._window)
        )
        hidden = self._backbone.embed_tokens(mx.array(batch.ids))
        hidden = hidden * mx.array(hidden.shape[-1] ** 0.5, hidden.dtype)
        for layer in self._backbone.layers:
            hidden = layer(hidden, near if layer.self_attn.is_sliding else whole, None)
        return self._backbone.norm(hidden)


def load_language_encoder(
    folder: Path, config: Mapping[str, Any]
) -> Generator[int, None, LanguageEncoder | TwoWayGemma]:
    """Loads the layers alone; the head is left out. Yields the bytes read so far."""
    if config.get("is_causal") is False:
        raise both_ways(folder)
    model_type = str(config.get("model_type"))
    changes: dict[str, Any] = {"tie_word_embeddings": True}
    if model_type == "gemma3_text":
        changes |= _gemma_words(config)

    def classes(config: Mapping[str, Any]) -> tuple[type[nn.Module], type]:
        return _headless(_SAME_AS.get(model_type, model_type))

    maybe_set_recommended_wired_limit()
    model, _ = load_model(folder, lazy=True, model_config=changes, get_model_classes=classes)
    if on_cpu():
        model.set_dtype(mx.float32)
    yield from read_weights(model)
    if model_type == "gemma3_text" and config.get("use_bidirectional_attention"):
        return TwoWayGemma(model, int(config.get("sliding_window", 4096)))
    return LanguageEncoder(model)


def load_with_output_rows(
    folder: Path, tokens: Sequence[int]
) -> Generator[int, None, tuple[LanguageEncoder, mx.array]]:
    """Loads the layers, and of the output layer what gives these tokens' logits
    [tokens, dimensions]. Yields the bytes read so far."""
    maybe_set_recommended_wired_limit()
    model, _ = load_model(folder, lazy=True)
    if on_cpu():
        model.set_dtype(mx.float32)
    rows = _output_rows(model, mx.array(tokens))
    # Computed now: lazy rows would hold on to the whole of the layer.
    mx.eval(rows)
    model.pop("lm_head", None)
    yield from read_weights(model)
    return LanguageEncoder(model), rows


def _output_rows(model: nn.Module, tokens: mx.array) -> mx.array:
    layer = model.lm_head if "lm_head" in model else model.model.embed_tokens
    if "scales" not in layer:
        return layer.weight[tokens]
    return mx.dequantize(
        layer.weight[tokens],
        layer.scales[tokens],
        layer.biases[tokens] if layer.get("biases") is not None else None,
        group_size=layer.group_size,
        bits=layer.bits,
        mode=layer.mode,
    )


def _headless(name: str) -> tuple[type[nn.Module], type]:
    """mlx-lm's classes, for checkpoints that were saved with a head or without any."""
    try:
        module = importlib.import_module(f"mlx_lm.models.{Path(name).name}")
    except ImportError as error:
        raise LoadError(
            f"MLX has no encoder for {name} models: serve it with --backend torch"
        ) from error

    class Headless(module.Model):  # type: ignore[name-defined]
        def sanitize(self, weights: Arrays) -> Arrays:
            layers = {
                name if name.startswith("model.") else f"model.{name}": array
                for name, array in weights.items()
                if not name.startswith(_OTHER_HEADS)
            }
            parent = super()
            return parent.sanitize(layers) if hasattr(parent, "sanitize") else layers

    return Headless, module.ModelArgs


def _gemma_words(config: Mapping[str, Any]) -> dict[str, Any]:
    """What mlx-lm reads by older names than transformers 5 writes.

    Raises LoadError where every n-th layer does not see the whole text, as mlx-lm assumes.
    """
    words: dict[str, Any] = {}
    types = config.get("layer_types")
    if isinstance(types, list):
        period = types.index("full_attention") + 1 if "full_attention" in types else len(types) + 1
        expected = ["sliding_attention"] * (period - 1) + ["full_attention"]
        if any(found != expected[place % period] for place, found in enumerate(types)):
            raise LoadError("its layers do not alternate as Gemma 3's do")
        words["sliding_window_pattern"] = period
    ropes = config.get("rope_parameters")
    if isinstance(ropes, dict):
        whole, near = ropes.get("full_attention", {}), ropes.get("sliding_attention", {})
        words["rope_theta"] = whole.get("rope_theta", 1_000_000.0)
        words["rope_local_base_freq"] = near.get("rope_theta", 10_000.0)
        if whole.get("rope_type", "default") != "default":
            words["rope_scaling"] = whole
    return words
