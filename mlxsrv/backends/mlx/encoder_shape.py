"""What tells one BERT-like encoder from another, read from its configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mlxsrv.backends.nomic import native_config
from mlxsrv.core.errors import LoadError

Config = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Attention:
    """One layer's: the base of its rotary positions, and how far it sees to either side."""

    rope: float | None = None
    window: int | None = None


@dataclass(frozen=True, slots=True)
class ClassifierShape:
    """The layers between the encoder and the labels."""

    activation: str = "tanh"
    bias: bool = True
    norm: bool = False
    mean: bool = False


@dataclass(frozen=True, slots=True)
class EncoderShape:
    """Sizes, and the choices in which the families differ.

    `positions` are learned ones, the first token's at `first_position`; `types` tells the
    texts of a pair apart; `buckets` of relative distance shift the attention. `gated` layers
    multiply two halves, `norm_first` ones normalise what goes into them, not what comes out.
    """

    vocabulary: int
    width: int
    inner: int
    heads: int
    attentions: tuple[Attention, ...]
    epsilon: float
    activation: str
    positions: int = 0
    first_position: int = 0
    types: int = 0
    buckets: int = 0
    gated: bool = False
    norm_first: bool = False
    attention_bias: bool = True
    inner_bias: bool = True
    norm_bias: bool = True
    classifier: ClassifierShape = ClassifierShape()


def shape_of(config: Config) -> EncoderShape:
    """Of one of the FAMILIES. Raises LoadError for a variant that is not served on MLX."""
    model_type = str(config["model_type"])
    try:
        shape = FAMILIES[model_type](config)
    except (KeyError, TypeError, ValueError) as error:
        raise LoadError(f"its config.json is not that of a {model_type} model: {error}") from error
    if shape.width % shape.heads:
        raise LoadError(f"{shape.width} dimensions can't be shared by {shape.heads} heads")
    return shape


def _bert(config: Config) -> EncoderShape:
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise LoadError("relative positions in a BERT model are not served on MLX")
    return EncoderShape(
        vocabulary=config["vocab_size"],
        width=config["hidden_size"],
        inner=config["intermediate_size"],
        heads=config["num_attention_heads"],
        attentions=(Attention(),) * config["num_hidden_layers"],
        epsilon=config.get("layer_norm_eps", 1e-12),
        activation=config.get("hidden_act", "gelu"),
        positions=config["max_position_embeddings"],
        types=config.get("type_vocab_size", 2),
    )


def _roberta(config: Config) -> EncoderShape:
    return replace(_bert(config), first_position=config.get("pad_token_id", 1) + 1)


def _mpnet(config: Config) -> EncoderShape:
    buckets = config.get("relative_attention_num_buckets", 32)
    return replace(_bert(config), first_position=2, types=0, buckets=buckets)


def _distilbert(config: Config) -> EncoderShape:
    return EncoderShape(
        vocabulary=config["vocab_size"],
        width=config["dim"],
        inner=config["hidden_dim"],
        heads=config["n_heads"],
        attentions=(Attention(),) * config["n_layers"],
        epsilon=1e-12,
        activation=config.get("activation", "gelu"),
        positions=config["max_position_embeddings"],
        classifier=ClassifierShape(activation="relu"),
    )


def _nomic(published: Config) -> EncoderShape:
    config = native_config(published)
    rope = _rope(config, None, config.get("rope_theta", 1000.0))
    return EncoderShape(
        vocabulary=config["vocab_size"],
        width=config["hidden_size"],
        inner=config["intermediate_size"],
        heads=config["num_attention_heads"],
        attentions=(Attention(rope),) * config["num_hidden_layers"],
        epsilon=config.get("layer_norm_eps", 1e-12),
        activation=config.get("hidden_act", "silu"),
        types=config.get("type_vocab_size", 2),
        gated=True,
        attention_bias=False,
        inner_bias=False,
    )


def _modernbert(config: Config) -> EncoderShape:
    return EncoderShape(
        vocabulary=config["vocab_size"],
        width=config["hidden_size"],
        inner=config["intermediate_size"],
        heads=config["num_attention_heads"],
        attentions=_alternating(config),
        epsilon=config.get("norm_eps", 1e-5),
        activation=config.get("hidden_activation", "gelu"),
        gated=True,
        norm_first=True,
        attention_bias=config.get("attention_bias", False),
        inner_bias=config.get("mlp_bias", False),
        norm_bias=config.get("norm_bias", False),
        classifier=ClassifierShape(
            activation=config.get("classifier_activation", "gelu"),
            bias=config.get("classifier_bias", False),
            norm=True,
            mean=config.get("classifier_pooling", "cls") == "mean",
        ),
    )


def _alternating(config: Config) -> tuple[Attention, ...]:
    """ModernBERT sees the whole text in every third layer, its neighbourhood in the others."""
    whole = Attention(_rope(config, "full_attention", config.get("global_rope_theta", 160_000.0)))
    near = Attention(
        _rope(
            config, "sliding_attention", config.get("local_rope_theta") or whole.rope or 10_000.0
        ),
        window=config.get("local_attention", 128) // 2,
    )
    period = config.get("global_attn_every_n_layers", 3)
    layers = range(config["num_hidden_layers"])
    types = config.get("layer_types") or [
        "sliding_attention" if layer % period else "full_attention" for layer in layers
    ]
    return tuple(near if types[layer] == "sliding_attention" else whole for layer in layers)


def _rope(config: Config, layers: str | None, default: float) -> float:
    """The base of rotary positions, in the words of transformers 5 or earlier."""
    parameters = config.get("rope_parameters") or {}
    if layers is not None:
        parameters = parameters.get(layers) or {}
    if config.get("rope_scaling") or parameters.get("rope_type", "default") != "default":
        raise LoadError("scaled rotary positions are not served on MLX")
    return float(parameters.get("rope_theta", default))


FAMILIES: Mapping[str, Callable[[Config], EncoderShape]] = {
    "bert": _bert,
    "camembert": _roberta,
    "distilbert": _distilbert,
    "modernbert": _modernbert,
    "mpnet": _mpnet,
    "nomic_bert": _nomic,
    "roberta": _roberta,
    "xlm-roberta": _roberta,
}
