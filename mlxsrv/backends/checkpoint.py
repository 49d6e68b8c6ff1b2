"""What a model folder holds, read from its small files and never from the weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mlxsrv.backends.generation import GenerationDefaults, eos_ids, generation_defaults
from mlxsrv.backends.headers import Tensor, read_header
from mlxsrv.backends.jsonfile import read_object, read_optional
from mlxsrv.backends.npz import read_npz_header
from mlxsrv.backends.pipeline import INDEX, read_pipeline
from mlxsrv.backends.recognise import architectures, kind_of, model_type_of
from mlxsrv.backends.weights import refuse_file, weight_files
from mlxsrv.core.errors import CheckpointRefused, LoadError
from mlxsrv.core.kinds import Kind

ESPEAK = "espeak"
"""The model type of espeak-ng's data."""
ESPEAK_DATA = "phondata"

SINGLE_FILE_FLUX = "double_blocks.0."
"""In the tensors' names where Black Forest Labs' own code, and ComfyUI, read a model."""

_CONTEXT_KEYS = (
    "max_position_embeddings",
    "n_positions",
    "max_sequence_length",
    "max_seq_len",
    "seq_length",
    "n_ctx",
)
_POSITIONS_AFTER_PADDING = frozenset({"camembert", "mpnet", "roberta", "xlm-roberta"})
_TEXT_PARTS = ("text_config", "llm_config", "language_config")
_FLOATS = {"BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64"}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model folder. Sizes in bytes, context in tokens, `created` in seconds since 1970.

    `float_items` numbers in `float_bytes` are stored as floats; the rest is packed.

    `quantization` is a label such as `4-bit`; `mlx_quantized` says that only MLX reads it.
    """

    folder: Path
    kind: Kind
    model_type: str
    architecture: str | None
    context_length: int | None
    quantization: str | None
    mlx_quantized: bool
    dtype: str | None
    weight_bytes: int
    float_items: int
    float_bytes: int
    parameters: int
    defaults: GenerationDefaults
    eos_ids: tuple[int, ...]
    has_chat_template: bool
    created: int


def read(folder: Path) -> Checkpoint:
    """Reads a Hugging Face or MLX model folder.

    Raises CheckpointRefused for a format or content that is never loaded, LoadError for a
    folder that is missing, damaged or incomplete; the message says what to do instead.
    """
    folder = folder.expanduser()
    if folder.is_file():
        raise refuse_file(folder)
    if not folder.is_dir():
        raise LoadError(f"no such model folder: {folder}")
    if (folder / INDEX).exists():
        return _read_pipeline(folder)
    if (folder / ESPEAK_DATA).exists():
        return _read_espeak(folder)
    if not (folder / "config.json").exists():
        raise _no_model(folder)
    config = read_object(folder / "config.json")
    _refuse_part(folder, config)
    _refuse_code(folder, config)
    files = weight_files(folder)
    tokenizer = read_optional(folder / "tokenizer_config.json")
    generation = read_optional(folder / "generation_config.json")
    template = _has_chat_template(folder, tokenizer)
    tensors = [tensor for file in files for tensor in _header(file)]
    kind = kind_of(
        config,
        name=_name(folder),
        sentence_transformer=_sentence_transformer(folder),
        has_chat_template=template,
    )
    label, mlx_quantized = _quantization(config)
    return Checkpoint(
        folder=folder,
        kind=kind,
        model_type=model_type_of(config),
        architecture=next(iter(architectures(config)), None),
        context_length=_context_length(folder, config, tokenizer, kind),
        quantization=label,
        mlx_quantized=mlx_quantized,
        dtype=_dtype(config, tensors),
        weight_bytes=sum(tensor.size for tensor in tensors),
        float_items=sum(tensor.items for tensor in tensors if tensor.dtype in _FLOATS),
        float_bytes=sum(tensor.size for tensor in tensors if tensor.dtype in _FLOATS),
        parameters=_parameters(config, tensors),
        defaults=generation_defaults(generation),
        eos_ids=eos_ids(generation, config, *_text_parts(config)),
        has_chat_template=template,
        created=int((folder / "config.json").stat().st_mtime),
    )


def _no_model(folder: Path) -> LoadError:
    """Where even the weights are of a kind that is refused, that is the better message: raises
    CheckpointRefused, LoadError."""
    names = [tensor.name for file in weight_files(folder) for tensor in _header(file)]
    if any(SINGLE_FILE_FLUX in name for name in names):
        return LoadError(
            f"{folder} has FLUX in single files: use the folder that diffusers reads, with "
            "model_index.json, such as that of black-forest-labs/FLUX.1-schnell"
        )
    return LoadError(f"{folder} has no config.json or model_index.json: it is not a model folder")


def _header(file: Path) -> list[Tensor]:
    return read_npz_header(file) if file.suffix == ".npz" else read_header(file)


def _read_pipeline(folder: Path) -> Checkpoint:
    """An image pipeline in parts (`model_index.json`, one folder a part)."""
    pipeline = read_pipeline(folder)
    for part in pipeline.parts:
        _refuse_code(part.folder, part.config)
    found = _without_text(folder, folder / INDEX, Kind.IMAGE, pipeline.name, {}, pipeline.tensors)
    packed = [_quantization(part.config) for part in pipeline.parts]
    return replace(
        found,
        quantization=next((label for label, _ in packed if label is not None), None),
        mlx_quantized=any(only_mlx for _, only_mlx in packed),
        parameters=sum(_parameters(part.config, part.tensors) for part in pipeline.parts),
    )


def _refuse_part(folder: Path, config: Mapping[str, Any]) -> None:
    if "_diffusers_version" in config:
        raise LoadError(
            f"{folder} is one part of an image model ({config.get('_class_name')}): name the "
            f"folder of the whole, which holds {INDEX}"
        )


def _read_espeak(folder: Path) -> Checkpoint:
    """The data of espeak-ng: rules and recordings, no tensors."""
    found = _without_text(folder, folder / ESPEAK_DATA, Kind.TTS, ESPEAK, {}, [])
    return replace(found, weight_bytes=(folder / ESPEAK_DATA).stat().st_size)


def _without_text(
    folder: Path,
    main: Path,
    kind: Kind,
    name: str,
    config: Mapping[str, Any],
    tensors: Sequence[Tensor],
) -> Checkpoint:
    return Checkpoint(
        folder=folder,
        kind=kind,
        model_type=name,
        architecture=name or None,
        context_length=None,
        quantization=None,
        mlx_quantized=False,
        dtype=_dtype(config, tensors),
        weight_bytes=sum(tensor.size for tensor in tensors),
        float_items=sum(tensor.items for tensor in tensors if tensor.dtype in _FLOATS),
        float_bytes=sum(tensor.size for tensor in tensors if tensor.dtype in _FLOATS),
        parameters=sum(tensor.items for tensor in tensors),
        defaults=GenerationDefaults(),
        eos_ids=(),
        has_chat_template=False,
        created=int(main.stat().st_mtime),
    )


def _name(folder: Path) -> str:
    """What the model is called: in the hub's cache the snapshot's folder is a number."""
    cached = (part for part in folder.parts[-3:] if part.startswith("models--"))
    return next(cached, folder.name)


def _sentence_transformer(folder: Path) -> str | None:
    """The class that sentence-transformers loads the folder with, if it made it."""
    if not (folder / "modules.json").exists():
        return None
    config = read_optional(folder / "config_sentence_transformers.json")
    return str(config.get("model_type") or "SentenceTransformer")


def _refuse_code(folder: Path, config: Mapping[str, Any]) -> None:
    """Code that comes with weights is never run, so a model that needs its own is refused.

    An `auto_map` alone is harmless: many checkpoints keep one from before their
    architecture came to the libraries, which then bring the code themselves.
    """
    model_type = str(config.get("model_type") or "")
    custom = "model_file" in config or ("auto_map" in config and not _is_native(model_type))
    if custom:
        raise CheckpointRefused(
            f"{folder} brings its own Python code, which is never run (no trust_remote_code): "
            "use a version of the model whose architecture is built into transformers or mlx-lm"
        )


def _is_native(model_type: str) -> bool:
    name = model_type.replace("-", "_")
    if not name.isidentifier():
        return False
    for package, place in (("transformers", "models/{}"), ("mlx_lm", "models/{}.py")):
        spec = find_spec(package)
        for root in (spec.submodule_search_locations or ()) if spec else ():
            if (Path(root) / place.format(name)).exists():
                return True
    return False


def _has_chat_template(folder: Path, tokenizer: Mapping[str, Any]) -> bool:
    files = ("chat_template.jinja", "chat_template.json")
    return bool(tokenizer.get("chat_template")) or any((folder / file).exists() for file in files)


def _text_parts(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [config[part] for part in _TEXT_PARTS if isinstance(config.get(part), dict)]


def _context_length(
    folder: Path, config: Mapping[str, Any], tokenizer: Mapping[str, Any], kind: Kind
) -> int | None:
    """Tokens the model was made for.

    Encoders often have a few positions more than they may use (RoBERTa starts to count at
    its padding id), and sentence-transformers cuts earlier, so there the least counts.
    """
    parts = (*_text_parts(config), config)
    found = (_positive(part.get(key)) for part in parts for key in _CONTEXT_KEYS)
    length = next((value for value in found if value is not None), None)
    if kind not in {Kind.EMBEDDING, Kind.RERANK}:
        return length
    sentence = read_optional(folder / "sentence_bert_config.json")
    bounds = (
        length - _unused_positions(config) if length else None,
        _positive(tokenizer.get("model_max_length")),
        _positive(sentence.get("max_seq_length")),
    )
    return min((bound for bound in bounds if bound is not None), default=None)


def _unused_positions(config: Mapping[str, Any]) -> int:
    """Positions before the first token's: RoBERTa and its kin begin behind the padding id."""
    if config.get("model_type") not in _POSITIONS_AFTER_PADDING:
        return 0
    padding = config.get("pad_token_id")
    return (padding if type(padding) is int else 1) + 1


def _positive(value: object) -> int | None:
    # Tokenizers write 1e30 where they know no bound.
    return value if type(value) is int and 0 < value < 10**9 else None


def _quantization(config: Mapping[str, Any]) -> tuple[str | None, bool]:
    mlx = config.get("quantization")
    if isinstance(mlx, dict) and "bits" in mlx:
        return f"{mlx['bits']}-bit", True
    other = config.get("quantization_config")
    if not isinstance(other, dict):
        return None, False
    if _positive(other.get("bits")):
        return f"{other['bits']}-bit", False
    return str(other.get("quant_method") or "quantized"), False


def _dtype(config: Mapping[str, Any], tensors: Iterable[Tensor]) -> str | None:
    """The float type that holds most bytes; the weights know better than the config."""
    sizes: Counter[str] = Counter()
    for tensor in tensors:
        if tensor.dtype in _FLOATS:
            sizes[_FLOATS[tensor.dtype]] += tensor.size
    if sizes:
        return sizes.most_common(1)[0][0]
    declared = config.get("dtype") or config.get("torch_dtype")
    return declared if isinstance(declared, str) else None


def _parameters(config: Mapping[str, Any], tensors: Iterable[Tensor]) -> int:
    """Weights as the model has them: MLX packs several quantised ones into a 32-bit word."""
    by_name = {tensor.name: tensor for tensor in tensors}
    settings = config.get("quantization")
    if not isinstance(settings, dict):
        return sum(tensor.items for tensor in by_name.values())
    total = 0
    for name, tensor in by_name.items():
        layer, _, part = name.rpartition(".")
        packed = f"{layer}.scales" in by_name
        if packed and part in {"scales", "biases"}:
            continue
        own = settings.get(layer)
        bits = _positive((own if isinstance(own, dict) else settings).get("bits"))
        is_words = packed and part == "weight" and tensor.dtype == "U32" and bits
        total += tensor.items * 32 // bits if is_words and bits else tensor.items
    return total
