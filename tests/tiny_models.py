"""Tiny random-weight checkpoints that really load, in the published Hugging Face format."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

Weights = dict[str, np.ndarray]

ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "mistral": "MistralForCausalLM",
}
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
ADDED = ["<think>", "</think>"]
INFILL = ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"]
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CORPUS = [
    "The quick brown fox jumps over the lazy dog.",
    "system user assistant: hello world, what is the weather in Paris today?",
]


@dataclass(frozen=True)
class Shape:
    """Sizes of a model. The defaults make about 150 kB."""

    hidden: int = 32
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    intermediate: int = 64
    vocabulary: int = 320
    context: int = 512
    sliding_window: int | None = None


def shape_of(model_type: str) -> Shape:
    """The default shape, with a window that is soon exceeded where the architecture slides."""
    return Shape(sliding_window=16) if model_type == "mistral" else Shape()


def build(
    folder: Path,
    model_type: str = "qwen3",
    shape: Shape = Shape(),
    *,
    seed: int = 0,
    chat_template: str | None = CHAT_TEMPLATE,
) -> Path:
    """Writes a whole checkpoint and returns its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(folder, shape.vocabulary, chat_template)
    write_config(folder, model_type, shape)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 0]}))
    tensors = weights(model_type, shape, seed)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def write_tokenizer(folder: Path, vocabulary: int, chat_template: str | None) -> None:
    """A byte-level BPE tokenizer in which every id below `vocabulary` is a token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(ADDED) - len(INFILL),
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_tokens([AddedToken(text, special=False) for text in ADDED])
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in INFILL])
    missing = range(tokenizer.get_vocab_size(), vocabulary)
    tokenizer.add_tokens([AddedToken(f"[{number}]", special=False) for number in missing])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "clean_up_tokenization_spaces": False,
        "model_max_length": 32768,
    }
    if chat_template is not None:
        settings["chat_template"] = chat_template
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def write_config(folder: Path, model_type: str, shape: Shape) -> None:
    config = {
        "architectures": [ARCHITECTURES[model_type]],
        "model_type": model_type,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.hidden // shape.heads,
        "vocab_size": shape.vocabulary,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "max_position_embeddings": shape.context,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "torch_dtype": "float32",
    }
    if shape.sliding_window is not None:
        config["sliding_window"] = shape.sliding_window
    (folder / "config.json").write_text(json.dumps(config))


def weights(model_type: str, shape: Shape, seed: int) -> Weights:
    """Random weights, large enough that greedy text is not one repeated token."""
    rng = np.random.default_rng(seed)
    head = shape.hidden // shape.heads
    queries, keys = shape.heads * head, shape.kv_heads * head

    def matrix(rows: int, columns: int) -> np.ndarray:
        values = rng.standard_normal((rows, columns)) * 2 / np.sqrt(columns)
        return np.asarray(values, np.float32)

    def filled(size: int, value: float = 1.0) -> np.ndarray:
        return np.full(size, value, np.float32)

    tensors = {
        "model.embed_tokens.weight": matrix(shape.vocabulary, shape.hidden) * 3,
        "model.norm.weight": filled(shape.hidden),
        "lm_head.weight": matrix(shape.vocabulary, shape.hidden),
    }
    for layer in range(shape.layers):
        prefix = f"model.layers.{layer}"
        tensors |= {
            f"{prefix}.input_layernorm.weight": filled(shape.hidden),
            f"{prefix}.post_attention_layernorm.weight": filled(shape.hidden),
            f"{prefix}.self_attn.q_proj.weight": matrix(queries, shape.hidden),
            f"{prefix}.self_attn.k_proj.weight": matrix(keys, shape.hidden),
            f"{prefix}.self_attn.v_proj.weight": matrix(keys, shape.hidden),
            f"{prefix}.self_attn.o_proj.weight": matrix(shape.hidden, queries),
            f"{prefix}.mlp.gate_proj.weight": matrix(shape.intermediate, shape.hidden),
            f"{prefix}.mlp.up_proj.weight": matrix(shape.intermediate, shape.hidden),
            f"{prefix}.mlp.down_proj.weight": matrix(shape.hidden, shape.intermediate),
        }
        if model_type == "qwen3":
            tensors[f"{prefix}.self_attn.q_norm.weight"] = filled(head)
            tensors[f"{prefix}.self_attn.k_norm.weight"] = filled(head)
        if model_type == "qwen2":
            tensors[f"{prefix}.self_attn.q_proj.bias"] = filled(queries, 0.1)
            tensors[f"{prefix}.self_attn.k_proj.bias"] = filled(keys, 0.1)
            tensors[f"{prefix}.self_attn.v_proj.bias"] = filled(keys, 0.1)
    return tensors
