"""Random-weight checkpoints to measure with, in the published Hugging Face format.

They are llamas in float32. Their answers never end by themselves, by construction: the first
channel of the residual stream is a positive constant that no layer writes to, and the output
rows of all tokens but the words point against it.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlxsrv.backends.builtin import DEMO, builtin_folder
from mlxsrv.backends.checkpoint import read
from mlxsrv.bench import words
from mlxsrv.core.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

    Weights = dict[str, np.ndarray[Any, Any]]

RECIPE = 1
"""Goes up when a checkpoint would come out different, so that none is mixed up in a cache."""

HEAD = 64
CONTEXT = 4096
CHANNEL = 4.0
"""The constant of the first channel."""
IMPOSSIBLE = -1e4
SIBLING_SEED = 1

BUILT_IN = (DEMO, f"{DEMO}-image")
"""Models of the product that can be measured; the first stands for the one that chats."""

CHAT_TEMPLATE = (
    "{% for m in messages %}"
    "{% if m.role == 'user' %}<|user|>{% elif m.role == 'assistant' %}<|assistant|>"
    "{% else %}<|system|>{% endif %}{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a llama; head size is `HEAD`."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    vocabulary: int

    @property
    def parameters(self) -> int:
        attention = 2 * self.hidden * HEAD * (self.heads + self.kv_heads)
        layer = attention + 3 * self.hidden * self.intermediate + 2 * self.hidden
        return 2 * self.vocabulary * self.hidden + self.layers * layer + self.hidden


SHAPES = {
    "tiny": Shape(256, 4, 4, 2, 768, 4096),
    "small": Shape(768, 7, 12, 4, 2048, 8192),
}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder to serve. `gguf` is where the same weights are in llama.cpp's format."""

    name: str
    folder: Path
    vocabulary: int
    weight_bytes: int

    @property
    def gguf(self) -> Path:
        return self.folder.parent / f"{self.folder.name}.gguf"


def default_cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "mlxsrv" / "bench"


def ensure(name: str, cache: Path) -> Checkpoint:
    """The checkpoint of that name, built first if it is not there. Raises ConfigError."""
    if name not in SHAPES:
        raise ConfigError(f"no checkpoint {name}: there are {' and '.join(SHAPES)}")
    shape = SHAPES[name]
    folder = cached(name, cache, lambda unfinished: build(unfinished, shape))
    return Checkpoint(name, folder, shape.vocabulary, 4 * shape.parameters)


def sibling(name: str, cache: Path) -> Checkpoint:
    """Another model of the same shape. Raises ConfigError where that is not one of ours."""
    shape = SHAPES.get(name)
    if shape is None:
        raise ConfigError(f"no model like {name} can be made: there are {' and '.join(SHAPES)}")
    other = f"{name}-{SIBLING_SEED}"
    folder = cached(other, cache, lambda unfinished: build(unfinished, shape, SIBLING_SEED))
    return Checkpoint(other, folder, shape.vocabulary, 4 * shape.parameters)


def cached(name: str, cache: Path, make: Callable[[Path], None]) -> Path:
    """The folder of that name; where it is not there, `make` fills an empty one first."""
    folder = cache / f"recipe-{RECIPE}" / name
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Renamed when complete: a build that is cut off must not be taken for a checkpoint.
        unfinished = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{name}-"))
        try:
            make(unfinished)
            unfinished.rename(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def given(folder: Path) -> Checkpoint:
    """A checkpoint of the user's own. Raises LoadError.

    Its prompts are made of our words whatever its tokenizer, so lengths are then approximate,
    and the library alone can't be measured on it.
    """
    found = read(folder)
    words_known = SHAPES["tiny"].vocabulary
    return Checkpoint(found.folder.name, found.folder, words_known, found.weight_bytes)


def built_in(name: str) -> Checkpoint:
    """One of `BUILT_IN`. Raises ConfigError where it is not installed."""
    folder = builtin_folder(name)
    if folder is None:
        raise ConfigError(f"the built-in model {name} is not installed")
    return given(folder)


def build(folder: Path, shape: Shape, seed: int = 0) -> None:
    """Writes a whole checkpoint into an existing folder."""
    from safetensors.numpy import save_file

    write_tokenizer(folder, shape.vocabulary)
    (folder / "config.json").write_text(json.dumps(config(shape), indent=1), encoding="utf-8")
    generation = {"eos_token_id": words.END, "pad_token_id": words.PAD, "do_sample": False}
    (folder / "generation_config.json").write_text(json.dumps(generation), encoding="utf-8")
    save_file(weights(shape, seed), folder / "model.safetensors", metadata={"format": "pt"})


def config(shape: Shape) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": HEAD,
        "vocab_size": shape.vocabulary,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "max_position_embeddings": CONTEXT,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": None,
        "eos_token_id": words.END,
        "pad_token_id": words.PAD,
        "torch_dtype": "float32",
    }


def vocabulary(size: int) -> list[str]:
    """Token texts by id, as a byte-level tokenizer writes them (a space is U+0120)."""
    from tokenizers.pre_tokenizers import ByteLevel

    spoken = [f"\u0120{word}" for word in words.words(size - words.FIRST_WORD)]
    return [*words.SPECIAL, *sorted(ByteLevel.alphabet()), *spoken]


def write_tokenizer(folder: Path, size: int) -> None:
    """A byte-level tokenizer in which each word, with the space before it, is one token.

    A prefix space is added, so that a text whose first space a server has taken off is
    encoded as before.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    ids = {text: id_ for id_, text in enumerate(vocabulary(size))}
    # No merges: whole words are found in the vocabulary, anything else falls into bytes.
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=[], ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in words.SPECIAL])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": words.SPECIAL[words.END],
        "pad_token": words.SPECIAL[words.PAD],
        "clean_up_tokenization_spaces": False,
        "model_max_length": CONTEXT,
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def weights(shape: Shape, seed: int) -> Weights:
    """Random weights, large enough that a greedy answer is not one word for ever."""
    import numpy as np

    rng = np.random.default_rng(seed)

    def matrix(rows: int, columns: int, gain: float = 2.0) -> np.ndarray[Any, Any]:
        values = rng.standard_normal((rows, columns), dtype=np.float32)
        return np.asarray(values * (gain / np.sqrt(columns)), np.float32)

    def ones() -> np.ndarray[Any, Any]:
        return np.ones(shape.hidden, np.float32)

    embedding = matrix(shape.vocabulary, shape.hidden, gain=float(np.sqrt(shape.hidden)))
    embedding[:, 0] = CHANNEL
    output = matrix(shape.vocabulary, shape.hidden)
    output[:, 0] = 0
    output[: words.FIRST_WORD] = 0
    output[: words.FIRST_WORD, 0] = IMPOSSIBLE
    tensors = {
        "model.embed_tokens.weight": embedding,
        "model.norm.weight": ones(),
        "lm_head.weight": output,
    }
    for layer in range(shape.layers):
        prefix = f"model.layers.{layer}"
        back = {
            f"{prefix}.self_attn.o_proj.weight": matrix(shape.hidden, shape.heads * HEAD),
            f"{prefix}.mlp.down_proj.weight": matrix(shape.hidden, shape.intermediate),
        }
        for writes in back.values():
            writes[0] = 0
        tensors |= back | {
            f"{prefix}.input_layernorm.weight": ones(),
            f"{prefix}.post_attention_layernorm.weight": ones(),
            f"{prefix}.self_attn.q_proj.weight": matrix(shape.heads * HEAD, shape.hidden),
            f"{prefix}.self_attn.k_proj.weight": matrix(shape.kv_heads * HEAD, shape.hidden),
            f"{prefix}.self_attn.v_proj.weight": matrix(shape.kv_heads * HEAD, shape.hidden),
            f"{prefix}.mlp.gate_proj.weight": matrix(shape.intermediate, shape.hidden),
            f"{prefix}.mlp.up_proj.weight": matrix(shape.intermediate, shape.hidden),
        }
    return tensors
