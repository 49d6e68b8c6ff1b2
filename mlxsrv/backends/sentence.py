"""What an embedding checkpoint says about pooling, heads and prompts.

The files are sentence-transformers': `modules.json` names the parts and the folders that hold
them, `config_sentence_transformers.json` the prompts. A checkpoint without them is treated as
sentence-transformers would.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mlxsrv.backends.checkpoint import Checkpoint
from mlxsrv.backends.encoding import Pooling
from mlxsrv.backends.headers import read_header
from mlxsrv.backends.jsonfile import read_object, read_optional, read_value
from mlxsrv.backends.weights import weight_files
from mlxsrv.core.errors import LoadError

ACTIVATIONS = frozenset({"Identity", "Tanh", "ReLU", "GELU", "SiLU", "Sigmoid"})

# In the order in which the parts are joined.
_OLD_MODES = {
    "pooling_mode_cls_token": Pooling.CLS,
    "pooling_mode_max_tokens": Pooling.MAX,
    "pooling_mode_mean_tokens": Pooling.MEAN,
    "pooling_mode_mean_sqrt_len_tokens": Pooling.MEAN_SQRT_LENGTH,
    "pooling_mode_weightedmean_tokens": Pooling.WEIGHTED_MEAN,
    "pooling_mode_lasttoken": Pooling.LAST_TOKEN,
}
_DIMENSION_KEYS = ("embedding_dimension", "word_embedding_dimension")


@dataclass(frozen=True, slots=True)
class Dense:
    """A linear layer over the pooled vector: `linear` names its tensors in `folder`.

    With `residual` the vector is added to the result, through `residual.weight` where the
    sizes differ. `activation` is one of ACTIVATIONS.
    """

    folder: Path
    inputs: int
    outputs: int
    bias: bool
    activation: str = "Identity"
    residual: bool = False
    linear: str = "linear"


@dataclass(frozen=True, slots=True)
class LayerNorm:
    """A layer normalisation of the pooled vector: `norm.weight`, `norm.bias` in `folder`."""

    folder: Path
    dimension: int


@dataclass(frozen=True, slots=True)
class Normalize:
    """Scaling to unit length, before what follows."""


Head = Dense | LayerNorm | Normalize


@dataclass(frozen=True, slots=True)
class SentenceSettings:
    """How tokens become a vector, and what belongs before a text.

    The results of several `pooling` modes are joined; `heads` then work on them in order.
    `normalized` says that the checkpoint itself ends with unit vectors. Without
    `include_prompt` a prompt's tokens are left out of the pooling. `width` is how large the
    encoder's vectors should be, where the files say it. `prompts` are put before a text by
    name; `lowercase` texts are lowered before they are tokenized.
    """

    pooling: tuple[Pooling, ...]
    heads: tuple[Head, ...] = ()
    normalized: bool = False
    include_prompt: bool = True
    width: int | None = None
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt_name: str | None = None
    max_seq_length: int | None = None
    lowercase: bool = False

    def dimensions(self, width: int) -> int:
        """Of the final vector, from the encoder's width. Raises LoadError where parts differ."""
        if self.width not in {None, width}:
            raise LoadError(f"its pooling is for {self.width} dimensions, its encoder has {width}")
        size = width * len(self.pooling)
        for head in self.heads:
            expected = _input_size(head)
            if expected not in {None, size}:
                raise LoadError(f"its heads take {expected} dimensions where {size} come in")
            size = head.outputs if isinstance(head, Dense) else size
        return size


def _input_size(head: Head) -> int | None:
    if isinstance(head, Dense):
        return head.inputs
    return head.dimension if isinstance(head, LayerNorm) else None


def read_sentence(checkpoint: Checkpoint) -> SentenceSettings:
    """Reads the files beside the weights.

    Raises LoadError for what is damaged, and for modules that are not served.
    """
    folder = checkpoint.folder
    transformer = read_optional(folder / "sentence_bert_config.json")
    config = read_optional(folder / "config_sentence_transformers.json")
    pooling, heads = _modules(checkpoint)
    normalized = bool(heads) and isinstance(heads[-1], Normalize)
    dimension = next((pooling[key] for key in _DIMENSION_KEYS if key in pooling), None)
    prompts = _prompts(config)
    default = config.get("default_prompt_name")
    longest = transformer.get("max_seq_length")
    return SentenceSettings(
        pooling=_modes(folder, pooling),
        heads=heads[:-1] if normalized else heads,
        normalized=normalized,
        include_prompt=pooling.get("include_prompt") is not False,
        width=dimension if type(dimension) is int else None,
        prompts=MappingProxyType(prompts),
        default_prompt_name=default if default in prompts else None,
        max_seq_length=longest if type(longest) is int and longest > 0 else None,
        lowercase=transformer.get("do_lower_case") is True,
    )


def _prompts(config: Mapping[str, Any]) -> dict[str, str]:
    found = config.get("prompts")
    pairs = found.items() if isinstance(found, dict) else ()
    return {str(name): text for name, text in pairs if isinstance(text, str)}


def _modules(checkpoint: Checkpoint) -> tuple[dict[str, Any], tuple[Head, ...]]:
    """The pooling's configuration, and the heads after it."""
    folder = checkpoint.folder
    if not (folder / "modules.json").exists():
        return _without_modules(checkpoint), tuple(_dense_inside(folder))
    pooling: dict[str, Any] | None = None
    heads: list[Head] = []
    for kind, path in _listed(folder):
        place = _inside(folder, path)
        if kind == "Transformer":
            _require_root(folder, place)
        elif kind == "Pooling" and pooling is None and not heads:
            pooling = read_object(place / "config.json")
        elif pooling is not None and kind in {"Dense", "LayerNorm", "Normalize"}:
            heads.append(_head(kind, place))
        elif kind != "Dropout":
            raise LoadError(f"{folder.name} has a {kind} module at {path!r}, which is not served")
    if pooling is None:
        raise LoadError(f"{folder.name} has no Pooling module: its modules.json is not complete")
    return pooling, tuple(heads)


def _without_modules(checkpoint: Checkpoint) -> dict[str, Any]:
    """Some conversions keep the pooling's folder alone. A language model has read all of a
    text only at its last token, unless it was made to look both ways."""
    pooling = checkpoint.folder / "1_Pooling" / "config.json"
    if pooling.exists():
        return read_object(pooling)
    config = read_object(checkpoint.folder / "config.json")
    causal = (checkpoint.architecture or "").endswith("ForCausalLM")
    both_ways = config.get("use_bidirectional_attention") is True
    return {"pooling_mode": "lasttoken" if causal and not both_ways else "mean"}


def _dense_inside(folder: Path) -> Iterator[Dense]:
    """Conversions of EmbeddingGemma to MLX keep its heads among the encoder's weights.

    They may be quantised, so that only their outputs show in the shapes.
    """
    tensors = [tensor for file in weight_files(folder) for tensor in read_header(file)]
    shapes = {tensor.name: tensor.shape for tensor in tensors if len(tensor.shape) == 2}
    inputs = read_object(folder / "config.json").get("hidden_size")
    place = 0
    while type(inputs) is int and f"dense.{place}.weight" in shapes:
        outputs = shapes[f"dense.{place}.weight"][0]
        yield Dense(folder, inputs, outputs, bias=False, linear=f"dense.{place}")
        inputs, place = outputs, place + 1


def _listed(folder: Path) -> list[tuple[str, str]]:
    """Kind and path of every module."""
    file = folder / "modules.json"
    modules = read_value(file)
    try:
        found = [(str(module["type"]), str(module["path"])) for module in modules]
    except (KeyError, TypeError) as error:
        raise LoadError(f"{file} does not list modules") from error
    for kind, _ in found:
        if not kind.startswith("sentence_transformers."):
            raise LoadError(f"{folder.name} needs a module of its own, {kind}: code is never run")
    return [(kind.rpartition(".")[2], path) for kind, path in found]


def _inside(folder: Path, path: str) -> Path:
    place = Path(path)
    if place.is_absolute() or ".." in place.parts:
        raise LoadError(f"{folder.name} names a module outside its folder: {path!r}")
    return folder / place


def _require_root(folder: Path, place: Path) -> None:
    if place != folder:
        raise LoadError(f"{folder.name} keeps its transformer in {place.name}: serve that folder")


def _head(kind: str, place: Path) -> Head:
    if kind == "Normalize":
        return Normalize()
    config = read_object(place / "config.json")
    try:
        if kind == "LayerNorm":
            return LayerNorm(place, dimension=int(config["dimension"]))
        return Dense(
            place,
            inputs=int(config["in_features"]),
            outputs=int(config["out_features"]),
            bias=config.get("bias") is not False,
            activation=_activation(place, config),
            residual=config.get("use_residual") is True,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise LoadError(f"{place / 'config.json'} is not a {kind} module's: {error}") from error


def _activation(place: Path, config: Mapping[str, Any]) -> str:
    """Tanh is what a Dense module has unless it says something else."""
    name = str(config.get("activation_function") or "torch.nn.Tanh")
    kind = name.rpartition(".")[2]
    if config.get("module_input_name", "sentence_embedding") != "sentence_embedding":
        raise LoadError(f"{place} works on tokens, not on the pooled vector, which is not served")
    if not name.startswith("torch.") or kind not in ACTIVATIONS:
        raise LoadError(f"{place} has an activation that is not served: {name}")
    return kind


def _modes(folder: Path, pooling: Mapping[str, Any]) -> tuple[Pooling, ...]:
    named = pooling.get("pooling_mode")
    if named is None:
        old = tuple(mode for key, mode in _OLD_MODES.items() if pooling.get(key) is True)
        return old or (Pooling.MEAN,)
    try:
        return tuple(Pooling(mode) for mode in ([named] if isinstance(named, str) else named))
    except (TypeError, ValueError) as error:
        raise LoadError(f"{folder.name} pools in a way that is not served: {named!r}") from error


def both_ways(folder: Path) -> LoadError:
    """For a language model that was trained to look both ways, by code that came with it."""
    return LoadError(
        f"{folder.name} looks ahead in a text (is_causal is false), which only its own code can "
        "do: that is never run"
    )
