"""Tiny random-weight encoders in the published formats, beside the models they were saved from.

Those are transformers' own: what they compute for a row by itself is what a backend should
give. Folders are as published: Nomic BERT, Qwen3 and Gemma with the configurations that the hub
has, Qwen3-Embedding without the `model.` before its tensors' names.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

VOCABULARY = 160
WIDTH = 32
LONGEST = 48

_WORDS = (
    "yes no the a of cat dog fish car road sun rain book music code who what where ? . , "
    "<|im_start|> <|im_end|>"
)
Config = dict[str, Any]


@dataclass(frozen=True)
class Family:
    """How one family's models are made, and how transformers' configuration is published."""

    model_type: str
    sizes: Mapping[str, Any]
    publish: Callable[[Config], Config] = dict
    padding: int = 0
    decodes: bool = False


def _published_nomic(config: Config) -> Config:
    names = {
        "hidden_size": "n_embd",
        "num_attention_heads": "n_head",
        "intermediate_size": "n_inner",
        "num_hidden_layers": "n_layer",
        "max_position_embeddings": "n_positions",
        "layer_norm_eps": "layer_norm_epsilon",
    }
    kept = ("model_type", "architectures", "vocab_size", "type_vocab_size", "id2label")
    return {
        **{key: config[key] for key in kept if key in config},
        **{new: config[old] for old, new in names.items()},
        "rotary_emb_base": config["rope_parameters"]["rope_theta"],
        "activation_function": "swiglu",
        "rotary_emb_fraction": 1.0,
        "rotary_emb_interleaved": False,
        "rotary_scaling_factor": None,
        "qkv_proj_bias": False,
        "auto_map": {"AutoModel": "modeling_hf_nomic_bert.NomicBertModel"},
    }


def _before_transformers_5(config: Config) -> Config:
    """Most checkpoints were published before `rope_parameters`."""
    config = dict(config)
    ropes = config.pop("rope_parameters")
    whole = ropes.get("full_attention", ropes)
    config |= {"rope_theta": whole["rope_theta"], "rope_scaling": None}
    if "sliding_attention" in ropes:
        config["rope_local_base_freq"] = ropes["sliding_attention"]["rope_theta"]
    return config


def _published_modernbert(config: Config) -> Config:
    config = dict(config)
    ropes = config.pop("rope_parameters")
    del config["layer_types"]
    return config | {
        "global_attn_every_n_layers": 3,
        "global_rope_theta": ropes["full_attention"]["rope_theta"],
        "local_rope_theta": ropes["sliding_attention"]["rope_theta"],
    }


_BERT: Config = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": LONGEST,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
_ROBERTA = _BERT | {"max_position_embeddings": LONGEST + 2, "pad_token_id": 1, "type_vocab_size": 1}
_DISTILBERT: Config = {
    "vocab_size": VOCABULARY,
    "dim": WIDTH,
    "n_layers": 2,
    "n_heads": 4,
    "hidden_dim": 64,
    "max_position_embeddings": LONGEST,
    "pad_token_id": 0,
}
_MODERNBERT = _BERT | {
    "num_hidden_layers": 4,
    "local_attention": 8,
    "cls_token_id": 2,
    "sep_token_id": 3,
}
_QWEN3 = _BERT | {"num_key_value_heads": 2, "head_dim": 8}
_GEMMA = _BERT | {
    "num_hidden_layers": 4,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "sliding_window": 8,
    "sliding_window_pattern": 3,
    "query_pre_attn_scalar": 8,
    "use_bidirectional_attention": True,
}

FAMILIES: Mapping[str, Family] = {
    "bert": Family("bert", _BERT),
    "distilbert": Family("distilbert", _DISTILBERT),
    "embeddinggemma": Family("gemma3_text", _GEMMA, _before_transformers_5, decodes=True),
    "modernbert": Family("modernbert", _MODERNBERT, _published_modernbert),
    "mpnet": Family(
        "mpnet", {k: v for k, v in _ROBERTA.items() if k != "type_vocab_size"}, padding=1
    ),
    "nomic": Family("nomic_bert", _BERT, _published_nomic),
    "qwen3": Family("qwen3", _QWEN3, _before_transformers_5, decodes=True),
    "roberta": Family("roberta", _ROBERTA, padding=1),
    "xlm-roberta": Family("xlm-roberta", _ROBERTA, padding=1),
}


def build(
    folder: Path,
    family: str,
    *,
    auto: str = "AutoModel",
    config: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Any:
    """Writes a whole checkpoint and gives the model in it.

    `auto` is one of transformers' Auto classes; `config` changes the configuration, such as
    `num_labels`.
    """
    import transformers

    made = FAMILIES[family]
    settings = transformers.AutoConfig.for_model(
        made.model_type, **{**made.sizes, **(config or {})}
    )
    model = getattr(transformers, auto).from_config(settings).eval()
    _randomize(model, seed)
    model.save_pretrained(folder)
    edit(folder / "config.json", made.publish)
    write_tokenizer(folder, made)
    return model


@torch.no_grad()
def _randomize(model: torch.nn.Module, seed: int) -> None:
    """Weights large enough that every token shows in every vector."""
    rng = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=rng)
        if parameter.ndim == 2:
            inputs = 1 if "embed" in name else parameter.shape[1]
            parameter.copy_(noise * 1.5 / inputs**0.5)
        else:
            parameter.copy_(0.2 * noise + (1.0 if name.endswith("weight") else 0.0))


def write_tokenizer(folder: Path, family: Family) -> None:
    """Words and numbers as tokens: `[7]` is token 7 wherever no word is."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    if family.padding == 1:
        special[:2] = special[1::-1]
    names = [*special, *_WORDS.split()]
    names += [f"[{number}]" for number in range(len(names), VOCABULARY)]
    tokenizer = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    tokenizer.add_special_tokens([*special, "<|im_start|>", "<|im_end|>"])
    tokenizer.post_processor = _post_processor(family)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings: Config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "model_max_length": LONGEST,
    }
    if family.model_type in {"bert", "nomic_bert"}:
        settings["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def _post_processor(family: Family) -> processors.TemplateProcessing:
    """Encoders put a text between tokens of their own, language models end it with one."""
    special = [("[CLS]", 2), ("[SEP]", 3)]
    if family.decodes:
        return processors.TemplateProcessing("$A [SEP]", "$A $B [SEP]", special)
    pair = "[CLS] $A [SEP] $B:1 [SEP]:1"
    return processors.TemplateProcessing("[CLS] $A [SEP]", pair, special)


def edit(file: Path, change: Callable[[Config], Config] | Mapping[str, Any]) -> None:
    """Changes the JSON object in a file; a mapping is merged into it."""
    found = json.loads(file.read_text()) if file.exists() else {}
    changed = change(found) if callable(change) else {**found, **change}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(changed))


def edit_weights(
    folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]
) -> None:
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def shard(folder: Path) -> None:
    """Splits the weights over two files with an index, as large checkpoints are."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    files = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    placed = {name: files[place % 2] for place, name in enumerate(sorted(tensors))}
    for file in files:
        own = {name: tensor for name, tensor in tensors.items() if placed[name] == file}
        save_file(own, folder / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": placed}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def quantize_for_mlx(folder: Path, *, bits: int, group_size: int = 32) -> None:
    """Quantises the folder's matrices as conversions to MLX do.

    The folder beside it, `…-rounded`, gets the very same numbers as floats.
    """
    import mlx.core as mx

    rounded = Path(shutil.copytree(folder, folder.with_name(f"{folder.name}-rounded")))
    arrays: dict[str, mx.array] = mx.load(str(folder / "model.safetensors"))
    packed, whole = dict(arrays), dict(arrays)
    for name, array in arrays.items():
        if array.ndim == 2 and array.shape[-1] % group_size == 0:
            stem = name.removesuffix(".weight")
            parts = mx.quantize(array, group_size=group_size, bits=bits)
            packed |= zip((name, f"{stem}.scales", f"{stem}.biases"), parts, strict=True)
            whole[name] = mx.dequantize(*parts, group_size=group_size, bits=bits)
    mx.save_safetensors(str(folder / "model.safetensors"), packed, metadata={"format": "mlx"})
    mx.save_safetensors(str(rounded / "model.safetensors"), whole, metadata={"format": "pt"})
    edit(folder / "config.json", {"quantization": {"group_size": group_size, "bits": bits}})


def sentence_transformer(
    folder: Path, modules: Iterable[tuple[str, str, Mapping[str, Any] | None]]
) -> None:
    """Writes modules.json with these (class, folder, configuration) after the transformer."""
    listed = [("models.Transformer", "", None), *modules]
    entries = [
        {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.{kind}"}
        for place, (kind, path, _) in enumerate(listed)
    ]
    (folder / "modules.json").write_text(json.dumps(entries))
    for _, path, settings in listed:
        if settings is not None:
            edit(folder / path / "config.json", settings)


def random_rows(lengths: Sequence[int], *, seed: int = 0, first: int = 8) -> list[tuple[int, ...]]:
    """Token ids that are no special tokens."""
    rng = np.random.default_rng(seed)
    return [tuple(rng.integers(first, VOCABULARY, length).tolist()) for length in lengths]


@torch.inference_mode()
def hidden_states(model: Any, ids: Sequence[int]) -> NDArray[np.float32]:
    """The model's own vectors of one text's tokens [tokens, dimensions]."""
    hidden: NDArray[np.float32] = model(input_ids=torch.tensor([ids])).last_hidden_state[0].numpy()
    return hidden


@torch.inference_mode()
def logits(model: Any, ids: Sequence[int], types: Sequence[int] = ()) -> NDArray[np.float32]:
    """The model's own logits for one row; of a language model, all its tokens'."""
    inputs = {"input_ids": torch.tensor([ids])}
    if types:
        inputs["token_type_ids"] = torch.tensor([types])
    found: NDArray[np.float32] = model(**inputs).logits[0].numpy()
    return found
