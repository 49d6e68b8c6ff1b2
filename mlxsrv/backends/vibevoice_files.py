"""VibeVoice checkpoints as they are published: Microsoft's layout, which conversions for MLX
share but for their axes, and transformers' own.

Here the tensors have transformers' names; every difference is told by what is there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from mlxsrv.backends import hubcache
from mlxsrv.backends.jsonfile import read_object, read_optional
from mlxsrv.core.errors import LoadError

SPEECH_BEGIN, SPEECH, SPEECH_END = "<|vision_start|>", "<|vision_pad|>", "<|vision_end|>"
"""Qwen2.5's tokens for pictures, which VibeVoice uses for sound."""
TEXT_END = "<|endoftext|>"
CONTROLS = (SPEECH_BEGIN, SPEECH, SPEECH_END, TEXT_END)


@dataclass(frozen=True, slots=True)
class Coder:
    """The half of a model between sound and latents: `latent` numbers each.

    `ratios` are those by which it shrinks sound, one after the other; `depths` the blocks
    before and after each.
    """

    latent: int
    filters: int
    ratios: tuple[int, ...]
    depths: tuple[int, ...]
    eps: float


@dataclass(frozen=True, slots=True)
class VibeVoiceSizes:
    """`text` is the configuration of the language model. `spread` says how much noise the voice
    to clone gets; `semantic` is a second coder that hears what was said."""

    text: Mapping[str, Any]
    acoustic: Coder
    semantic: Coder
    head_layers: int
    head_inner: int
    head_eps: float
    spread: float

    @property
    def context(self) -> int:
        return int(self.text["max_position_embeddings"])

    @property
    def hop(self) -> int:
        """Samples that one latent stands for."""
        hop = 1
        for ratio in self.acoustic.ratios:
            hop *= ratio
        return hop


def read_sizes(folder: Path) -> VibeVoiceSizes:
    """Reads either kind of config.json. Raises LoadError where it is not VibeVoice's."""
    config = read_object(folder / "config.json")
    try:
        return _original(config) if "decoder_config" in config else _hub(config)
    except (KeyError, TypeError, ValueError) as error:
        raise LoadError(f"{folder.name}: config.json is not VibeVoice's: {error}") from error


def _original(config: Mapping[str, Any]) -> VibeVoiceSizes:
    text, head = config["decoder_config"], config["diffusion_head_config"]
    if head.get("prediction_type", "v_prediction") != "v_prediction":
        raise ValueError(f"prediction_type is {head['prediction_type']}")
    acoustic = config["acoustic_tokenizer_config"]
    return VibeVoiceSizes(
        text=text,
        acoustic=_original_coder(acoustic),
        semantic=_original_coder(config["semantic_tokenizer_config"]),
        head_layers=int(head["head_layers"]),
        head_inner=int(text["hidden_size"] * head["head_ffn_ratio"]),
        head_eps=float(head.get("rms_norm_eps", 1e-5)),
        spread=float(acoustic.get("fix_std", 0.5)) / 0.8,
    )


def _original_coder(config: Mapping[str, Any]) -> Coder:
    return Coder(
        latent=int(config["vae_dim"]),
        filters=int(config["encoder_n_filters"]),
        ratios=tuple(reversed(_integers(config["encoder_ratios"]))),
        depths=_integers(config["encoder_depths"].split("-")),
        eps=float(config.get("layernorm_eps", 1e-5)),
    )


def _hub(config: Mapping[str, Any]) -> VibeVoiceSizes:
    head = config["diffusion_head_config"]
    text = config["text_config"]
    return VibeVoiceSizes(
        # Before its fifth version transformers had this one outside.
        text={"rope_theta": text.get("rope_parameters", {}).get("rope_theta", 1e6), **text},
        acoustic=_hub_coder(config["audio_config"]),
        semantic=_hub_coder(config["semantic_model_config"]),
        head_layers=int(head["num_hidden_layers"]),
        head_inner=int(head["intermediate_size"]),
        head_eps=float(head.get("rms_norm_eps", 1e-5)),
        spread=float(config["audio_config"].get("vae_std", 0.625)),
    )


def _hub_coder(config: Mapping[str, Any]) -> Coder:
    return Coder(
        latent=int(config["hidden_size"]),
        filters=int(config["num_filters"]),
        ratios=_integers(config["downsampling_ratios"]),
        depths=_integers(config["depths"]),
        eps=float(config.get("rms_norm_eps", 1e-5)),
    )


def _integers(values: Sequence[Any]) -> tuple[int, ...]:
    return tuple(int(value) for value in values)


_RENAMED = (
    (r"\.(mlp|adaLN_modulation)\.layers\.", r".\1."),  # MLX puts this into every sequence
    (r"^(model\.)?(?=(acoustic|semantic|prediction|language|speech|tts)_)", "model."),
    (r"^model\.acoustic_tokenizer\.", "model.audio_tower."),
    (r"^model\.semantic_tokenizer\.encoder\.", "model.semantic_tokenizer_encoder."),
    (r"\.(down|up)sample_layers\.0\.0\.conv\.", ".stem.conv."),
    (r"\.stages\.0\.", ".stem.stage."),
    (r"\.mixer\.conv\.conv\.conv\.", ".mixer.conv."),
    (r"\.head\.conv\.conv\.", ".head.conv."),
    (r"^model\.acoustic_connector\.", "model.multi_modal_projector."),
    (r"(projector|connector)\.fc(\d)\.", r"\1.linear_\2."),
    (r"(projector|connector)\.norm\.", r"\1.act."),
    (r"^model\.prediction_head\.", "model.diffusion_head."),
    (r"\.t_embedder\.mlp\.0\.", ".timestep_proj.fc1."),
    (r"\.t_embedder\.mlp\.2\.", ".timestep_proj.fc2."),
    (r"\.final_layer\.linear\.", ".final_layer.linear_2."),
    (r"\.final_layer\.adaLN_modulation\.1\.", ".final_layer.linear_1."),
    (r"\.adaLN_modulation\.1\.", ".linear."),
    (r"^model\.speech_(scaling|bias)_factor", r"model.latent_\1_factor"),
)
_COUNTED_FROM_STEM = re.compile(r"\.(?:(?:down|up)sample_layers\.(\d+)\.0|stages\.(\d+))\.")


def our_name(published: str) -> str:
    """The name of a tensor here; names that are transformers' stay as they are."""
    name = published
    for pattern, replacement in _RENAMED:
        name = re.sub(pattern, replacement, name)
    return _COUNTED_FROM_STEM.sub(_counted, name)


def _counted(found: re.Match[str]) -> str:
    """Microsoft counts the stem as the first layer."""
    if found[1] is not None:
        return f".conv_layers.{int(found[1]) - 1}."
    return f".conv_layers.{int(found[2]) - 1}.stage."


def read_tokenizer(folder: Path, *, needed: Sequence[str] = CONTROLS) -> Tokenizer:
    """The tokenizer in the folder, else that of the language model it names. Raises LoadError.

    Special tokens in a text are taken as the characters they are written with.
    """
    file = folder / "tokenizer.json"
    if not file.exists():
        file = _borrowed(folder) / "tokenizer.json"
    try:
        tokenizer: Tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing narrower
        raise LoadError(f"{folder.name}: can't read {file}: {error}") from error
    missing = [token for token in needed if tokenizer.token_to_id(token) is None]
    if missing:
        raise LoadError(f"{folder.name}: the tokenizer lacks {', '.join(missing)}")
    tokenizer.encode_special_tokens = True
    return tokenizer


def _borrowed(folder: Path) -> Path:
    named = read_optional(folder / "preprocessor_config.json")
    name = str(named.get("language_model_pretrained_name") or "Qwen/Qwen2.5-1.5B")
    place = Path(name) if Path(name).is_dir() else hubcache.find_tokenizer(name)
    if place is None:
        raise LoadError(
            f"{folder.name} has no tokenizer.json and uses the one of {name}: get it with "
            f"`hf download {name} tokenizer.json`"
        )
    return place
