"""Random-weight Whispers to measure with, in both published formats, and sound for them.

Their vocabulary and settings are those of the built-in demo model, which are OpenAI's. The texts
are nonsense, of a length that speech has: the first channel of the decoder's states is written by
its positions alone, and decides between words and the end of the text.
"""

from __future__ import annotations

import json
import re
import shutil
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlxsrv.backends.builtin import builtin_folder
from mlxsrv.bench.checkpoints import Checkpoint, cached
from mlxsrv.core.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

    Weights = dict[str, np.ndarray[Any, Any]]

DEMO = "demo-whisper"
COPIED = (
    *("generation_config.json", "preprocessor_config.json"),
    *("tokenizer.json", "tokenizer_config.json"),
)
MELS, MOMENTS, CONTEXT = 80, 1500, 448
END = 50_257
VOCABULARY = 51_865
OPENING = 3
WORD = re.compile("\u0120[A-Za-z]+")
WORDS = 80
"""Tokens of a window's text."""
CHANNEL = 30.0
AGAINST = 10.0
"""What the first channel is worth at a position, and to a token that comes only after the words."""
RATE = 16_000
LOUDNESS_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Shape:
    """`layers` are the encoder's and the decoder's."""

    width: int
    layers: tuple[int, int]
    heads: int


SHAPES = {"whisper": Shape(384, (4, 4), 6), "whisper-mini": Shape(96, (4, 3), 3)}
"""As large as OpenAI's smallest model, and as the demo."""


def ensure(name: str, cache: Path) -> Checkpoint:
    """The model of that name, built first if it is not there. Raises KeyError, ConfigError."""
    shape = SHAPES[name]
    folder = cached(name, cache, lambda unfinished: build(unfinished, shape))
    size = (folder / "model.safetensors").stat().st_size
    return Checkpoint(name, folder, VOCABULARY, size)


def converted(checkpoint: Checkpoint, cache: Path) -> Path:
    """The same model as mlx-whisper wants it."""
    source = checkpoint.folder
    return cached(f"{source.name}-mlx", cache, lambda unfinished: convert(source, unfinished))


def build(folder: Path, shape: Shape, seed: int = 0) -> None:
    """Writes a whole checkpoint into an existing folder. Raises ConfigError without the demo."""
    from safetensors.numpy import save_file

    demo = builtin_folder(DEMO)
    if demo is None:
        raise ConfigError(f"the built-in {DEMO} is not installed, whose vocabulary is needed")
    for name in COPIED:
        shutil.copy(demo / name, folder / name)
    settings = json.loads((demo / "config.json").read_text(encoding="utf-8"))
    written = json.dumps(settings | config(shape), indent=1)
    (folder / "config.json").write_text(written, encoding="utf-8")
    save_file(
        weights(shape, words(demo), seed), folder / "model.safetensors", metadata={"format": "pt"}
    )


def config(shape: Shape) -> dict[str, Any]:
    """What differs from the demo's."""
    halves: dict[str, Any] = {}
    for half, layers in zip(("encoder", "decoder"), shape.layers, strict=True):
        halves |= {
            f"{half}_layers": layers,
            f"{half}_attention_heads": shape.heads,
            f"{half}_ffn_dim": 4 * shape.width,
        }
    return halves | {
        "d_model": shape.width,
        "num_mel_bins": MELS,
        "max_source_positions": MOMENTS,
        "max_target_positions": CONTEXT,
        "vocab_size": VOCABULARY,
        "dtype": "float32",
        "torch_dtype": "float32",
    }


def words(demo: Path) -> list[int]:
    """The tokens that are words of ASCII letters, with the space before them (U+0120)."""
    read = json.loads((demo / "tokenizer.json").read_text(encoding="utf-8"))
    return [id_ for text, id_ in read["model"]["vocab"].items() if WORD.fullmatch(text)]


def weights(shape: Shape, spoken: Sequence[int], seed: int) -> Weights:
    """Random weights by the names that Whisper's tensors have on the hub."""
    import numpy as np

    rng = np.random.default_rng(seed)
    width, inner = shape.width, 4 * shape.width
    tensors: Weights = {}

    def put(name: str, *sizes: int, gain: float = 1.0) -> None:
        values = rng.standard_normal(sizes, dtype=np.float32)
        scale = gain / np.sqrt(np.prod(sizes[1:]))
        tensors[f"model.{name}"] = np.asarray(values * scale, np.float32)

    def linear(name: str, rows: int, columns: int, *, bias: bool = True, gain: float = 1.0) -> None:
        put(f"{name}.weight", rows, columns, gain=gain)
        if bias:
            tensors[f"model.{name}.bias"] = np.zeros(rows, np.float32)

    def norm(name: str) -> None:
        tensors[f"model.{name}.weight"] = np.ones(width, np.float32)
        tensors[f"model.{name}.bias"] = np.zeros(width, np.float32)

    def attention(name: str) -> None:
        for part in ("q_proj", "k_proj"):
            linear(f"{name}.{part}", width, width, bias=part == "q_proj", gain=2)
        linear(f"{name}.v_proj", width, width)
        linear(f"{name}.out_proj", width, width)
        norm(f"{name}_layer_norm")

    def layers(half: str, count: int, *attentions: str) -> None:
        for number in range(count):
            layer = f"{half}.layers.{number}"
            for name in attentions:
                attention(f"{layer}.{name}")
            linear(f"{layer}.fc1", inner, width, gain=2)
            linear(f"{layer}.fc2", width, inner)
            norm(f"{layer}.final_layer_norm")
        norm(f"{half}.layer_norm")

    for number, size in ((1, MELS), (2, width)):
        put(f"encoder.conv{number}.weight", width, size, 3, gain=2)
        tensors[f"model.encoder.conv{number}.bias"] = np.zeros(width, np.float32)
    tensors["model.encoder.embed_positions.weight"] = _sinusoids(width)
    layers("encoder", shape.layers[0], "self_attn")
    # What a token adds has to be little, or one word would come for ever.
    for name, rows, scale in (("tokens", VOCABULARY, 0.3), ("positions", CONTEXT, 3.0)):
        put(f"decoder.embed_{name}.weight", rows, width, gain=scale * float(np.sqrt(width)))
    layers("decoder", shape.layers[1], "self_attn", "encoder_attn")
    _steer(tensors, shape, spoken)
    return tensors


def _sinusoids(width: int) -> np.ndarray[Any, Any]:
    from mlxsrv.backends.whisper_files import sinusoids

    return sinusoids(MOMENTS, width)


def _steer(tensors: Weights, shape: Shape, spoken: Sequence[int]) -> None:
    """`spoken` tokens first, then the end, and no time stamps but the one that has to be."""
    for layer in range(shape.layers[1]):
        prefix = f"model.decoder.layers.{layer}"
        for part in ("self_attn.out_proj", "encoder_attn.out_proj", "fc2"):
            tensors[f"{prefix}.{part}.weight"][0] = 0
        for part in (*(f"self_attn.{x}_proj" for x in "qkv"), "encoder_attn.q_proj", "fc1"):
            tensors[f"{prefix}.{part}.weight"][:, 0] = 0
    tokens = tensors["model.decoder.embed_tokens.weight"]
    tokens[:, 0] = -AGAINST
    tokens[list(spoken), 0] = 0
    tokens[END, 0] = -3 * AGAINST
    positions = tensors["model.decoder.embed_positions.weight"]
    positions[:, 0] = CHANNEL
    positions[OPENING + WORDS :, 0] = -CHANNEL


OPENAI_SIZES = {
    "n_mels": "num_mel_bins",
    "n_audio_ctx": "max_source_positions",
    "n_audio_state": "d_model",
    "n_audio_head": "encoder_attention_heads",
    "n_audio_layer": "encoder_layers",
    "n_vocab": "vocab_size",
    "n_text_ctx": "max_target_positions",
    "n_text_state": "d_model",
    "n_text_head": "decoder_attention_heads",
    "n_text_layer": "decoder_layers",
}
"""The sizes in OpenAI's configurations, which mlx-whisper has too, by transformers' names."""

OPENAI_NAMES = (
    ("model.", ""),
    ("layers.", "blocks."),
    ("self_attn_layer_norm", "attn_ln"),
    ("encoder_attn_layer_norm", "cross_attn_ln"),
    ("final_layer_norm", "mlp_ln"),
    ("encoder.layer_norm", "encoder.ln_post"),
    ("decoder.layer_norm", "decoder.ln"),
    ("self_attn", "attn"),
    ("encoder_attn", "cross_attn"),
    ("q_proj", "query"),
    ("k_proj", "key"),
    ("v_proj", "value"),
    ("out_proj", "out"),
    ("fc1", "mlp1"),
    ("fc2", "mlp2"),
    ("decoder.embed_tokens", "decoder.token_embedding"),
    ("decoder.embed_positions.weight", "decoder.positional_embedding"),
)


def convert(source: Path, folder: Path) -> None:
    """Writes a transformers folder's model into an existing folder as mlx-whisper has it."""
    from safetensors.numpy import load_file, save_file

    settings = json.loads((source / "config.json").read_text(encoding="utf-8"))
    sizes = {theirs: settings[ours] for theirs, ours in OPENAI_SIZES.items()}
    (folder / "config.json").write_text(json.dumps(sizes), encoding="utf-8")
    tensors: Weights = {}
    for name, tensor in load_file(source / "model.safetensors").items():
        if name not in {"model.encoder.embed_positions.weight", "proj_out.weight"}:
            theirs = reduce(lambda known, pair: known.replace(*pair), OPENAI_NAMES, name)
            turned = ".conv" in name and tensor.ndim == 3
            tensors[theirs] = tensor.transpose(0, 2, 1).copy() if turned else tensor
    save_file(tensors, folder / "weights.safetensors")


def recording(seconds: int, cache: Path) -> Path:
    """Noise that is loud and quiet in turn, as a WAV file at the rate that Whisper hears."""
    folder = cached(
        f"sound-{seconds}", cache, lambda folder: _record(folder / "noise.wav", seconds)
    )
    return folder / "noise.wav"


def _record(path: Path, seconds: int) -> None:
    import numpy as np

    rng = np.random.default_rng(seconds)
    step = int(LOUDNESS_SECONDS * RATE)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        for loudness in rng.uniform(0.01, 0.2, round(seconds / LOUDNESS_SECONDS)):
            noise = np.clip(rng.standard_normal(step) * loudness, -1, 1)
            file.writeframes((32767 * noise).astype("<i2").tobytes())
