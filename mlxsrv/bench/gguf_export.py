"""The same checkpoint in llama.cpp's format, for peers that read only that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlxsrv.bench import words
from mlxsrv.bench.checkpoints import HEAD, Checkpoint, vocabulary
from mlxsrv.core.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}


def ensure(checkpoint: Checkpoint) -> Path:
    """Writes the file if it is not there. Raises ConfigError without the `gguf` package."""
    if not checkpoint.gguf.exists():
        unfinished = checkpoint.gguf.with_suffix(".unfinished")
        write(checkpoint, unfinished)
        unfinished.rename(checkpoint.gguf)
    return checkpoint.gguf


def write(checkpoint: Checkpoint, path: Path) -> None:
    try:
        from gguf import GGUFWriter
    except ImportError:
        raise ConfigError(
            "llama_cpp reads only GGUF: pip install 'mlxsrv[bench]' to write it"
        ) from None
    from safetensors.numpy import load_file

    config = json.loads((checkpoint.folder / "config.json").read_text(encoding="utf-8"))
    writer = GGUFWriter(path, "llama")
    _write_sizes(writer, config)
    _write_vocabulary(writer, checkpoint)
    for name, values in load_file(checkpoint.folder / "model.safetensors").items():
        writer.add_tensor(renamed(name), reordered(name, values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_sizes(writer: Any, config: dict[str, Any]) -> None:
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(HEAD)
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(0)  # all float32


def _write_vocabulary(writer: Any, checkpoint: Checkpoint) -> None:
    from gguf import TokenType

    settings_file = checkpoint.folder / "tokenizer_config.json"
    settings = json.loads(settings_file.read_text(encoding="utf-8"))
    texts = vocabulary(checkpoint.vocabulary)
    control = len(words.SPECIAL)
    kinds = [TokenType.CONTROL] * control + [TokenType.NORMAL] * (len(texts) - control)
    writer.add_tokenizer_model("gpt2")
    # This one, too, looks for whole words in the vocabulary before it merges.
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list(texts)
    writer.add_token_types(kinds)
    # The reader wants merges; this one, of two bytes no prompt holds, changes nothing.
    writer.add_token_merges(["\u00c4 \u00c4"])
    writer.add_eos_token_id(words.END)
    writer.add_pad_token_id(words.PAD)
    writer.add_add_bos_token(False)
    writer.add_chat_template(settings["chat_template"])


def renamed(name: str) -> str:
    """Hugging Face's name of a llama's tensor → GGUF's."""
    if name in NAMES:
        return NAMES[name]
    _, _, layer, part = name.removesuffix(".weight").split(".", 3)
    return f"blk.{layer}.{LAYER_NAMES[part]}.weight"


def reordered(name: str, values: Array) -> Array:
    """Rotary channels come as halves in one format and as pairs in the other."""
    if "q_proj" not in name and "k_proj" not in name:
        return values
    rows, columns = values.shape
    halves = values.reshape(rows // HEAD, 2, HEAD // 2, columns)
    return halves.swapaxes(1, 2).reshape(rows, columns)
