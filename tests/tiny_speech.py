"""Tiny random-weight checkpoints of models that speak, in the layouts that are published."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file

Layout = Literal["microsoft", "transformers", "mlx"]

SPEECH_TOKENS = ("<|endoftext|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>")
LETTERS = "_abcdefghijklmnopqrstuvwxyz '-"
KOKORO_LETTERS = ';:,.!?—…"() “”abcdefghijklmnopqrstuvwxyzAIOWYəɛɪʊʌæʃʒθðŋˈˌːɹɔɜɡɐʤʧᵊ'
RATIOS = (2, 2, 4, 5, 5, 8)


def build_vits(folder: Path, *, speakers: int = 2, uroman: bool = False) -> Path:
    """A folder as transformers writes it; 16 kHz, 256 samples a frame."""
    from transformers import VitsConfig, VitsModel, VitsTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = folder / "vocab.json"
    vocabulary.write_text(json.dumps({c: i for i, c in enumerate(LETTERS)}), "utf-8")
    VitsTokenizer(
        str(vocabulary),
        pad_token="_",
        unk_token="_",
        is_uroman=uroman,
        phonemize=False,
        language="eng",
    ).save_pretrained(folder)
    config = VitsConfig(
        vocab_size=len(LETTERS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        ffn_dim=64,
        flow_size=32,
        spectrogram_bins=65,
        upsample_initial_channel=32,
        upsample_rates=[8, 8, 2, 2],
        upsample_kernel_sizes=[16, 16, 4, 4],
        resblock_kernel_sizes=[3, 5],
        resblock_dilation_sizes=[[1, 3], [1, 5]],
        prior_encoder_num_flows=2,
        posterior_encoder_num_wavenet_layers=2,
        prior_encoder_num_wavenet_layers=2,
        depth_separable_channels=2,
        depth_separable_num_layers=2,
        duration_predictor_num_flows=2,
        sampling_rate=16_000,
        num_speakers=speakers,
        speaker_embedding_size=16 if speakers > 1 else 0,
    )
    torch.manual_seed(0)
    VitsModel(config).eval().save_pretrained(folder)
    return folder


def build_vibevoice(
    folder: Path, *, layout: Layout = "microsoft", context: int = 1024, seed: int = 0
) -> Path:
    """The same weights in every layout. It speaks until it is stopped."""
    from transformers import VibeVoiceConfig, VibeVoiceForConditionalGeneration

    folder.mkdir(parents=True, exist_ok=True)
    write_speech_tokenizer(folder)
    config = VibeVoiceConfig(**_vibevoice_config(context))
    torch.manual_seed(seed)
    model = VibeVoiceForConditionalGeneration(config)
    tensors = {name: _audible(name, tensor) for name, tensor in model.state_dict().items()}
    _make_talkative(tensors)
    if layout == "transformers":
        written = config.to_dict()
    else:
        tensors, written = _microsoft(tensors, mlx=layout == "mlx"), _microsoft_config(context)
    (folder / "config.json").write_text(json.dumps(written), "utf-8")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def write_speech_tokenizer(folder: Path) -> None:
    """Bytes, and the tokens that VibeVoice needs."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    bytewise = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(letters)}, merges=[]))
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytewise.decoder = decoders.ByteLevel()
    bytewise.add_special_tokens(list(SPEECH_TOKENS))
    bytewise.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": SPEECH_TOKENS[0]}),
        "utf-8",
    )


def _vibevoice_config(context: int) -> dict[str, Any]:
    coder = {
        "num_filters": 3,
        "downsampling_ratios": list(RATIOS),
        "depths": [1] * 7,
        "hidden_size": 16,
    }
    return {
        "text_config": {
            "model_type": "qwen2",
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": 260,
            "max_position_embeddings": context,
            "rope_theta": 1e6,
            "rms_norm_eps": 1e-6,
            "tie_word_embeddings": False,
        },
        "audio_config": {"model_type": "vibevoice_acoustic_tokenizer", **coder},
        "semantic_model_config": {
            "model_type": "vibevoice_acoustic_tokenizer_encoder",
            **coder,
            "hidden_size": 24,
        },
        "diffusion_head_config": {
            "model_type": "vibevoice_diffusion",
            "num_hidden_layers": 2,
            "intermediate_size": 192,
        },
    }


def _microsoft_config(context: int) -> dict[str, Any]:
    coder = {
        "encoder_n_filters": 3,
        "encoder_ratios": list(reversed(RATIOS)),
        "encoder_depths": "1-1-1-1-1-1-1",
        "fix_std": 0.5,
    }
    return {
        "model_type": "vibevoice",
        "acoustic_vae_dim": 16,
        "semantic_vae_dim": 24,
        "decoder_config": _vibevoice_config(context)["text_config"],
        "acoustic_tokenizer_config": {**coder, "vae_dim": 16, "decoder_n_filters": 3},
        "semantic_tokenizer_config": {**coder, "vae_dim": 24},
        "diffusion_head_config": {"hidden_size": 64, "head_layers": 2, "head_ffn_ratio": 3.0}
        | {"latent_size": 16, "speech_vae_dim": 16, "prediction_type": "v_prediction"},
    }


def _audible(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """New models have layers scaled to nearly nothing."""
    if name.endswith("gamma"):
        return torch.full_like(tensor, 0.5)
    if name.endswith("latent_scaling_factor"):
        return torch.full_like(tensor, 0.8)
    if name.endswith("latent_bias_factor"):
        return torch.full_like(tensor, 0.1)
    if "audio_tower" in name and name.endswith("weight") and tensor.ndim > 1:
        return tensor * 6
    return tensor


def _make_talkative(tensors: dict[str, torch.Tensor]) -> None:
    """The first number of every hidden state says that it should go on, and nothing changes it."""
    tensors["model.language_model.embed_tokens.weight"][:, 0] = 10
    for name, tensor in tensors.items():
        if name.endswith(("o_proj.weight", "down_proj.weight")) and "language_model" in name:
            tensor[0] = 0
    for part in ("multi_modal_projector", "semantic_connector"):
        tensors[f"model.{part}.linear_2.weight"][0] = 0
        tensors[f"model.{part}.linear_2.bias"][0] = 5
    tensors["lm_head.weight"].zero_()
    tensors["lm_head.weight"][256 + SPEECH_TOKENS.index("<|vision_pad|>"), 0] = 10


def _microsoft(tensors: dict[str, torch.Tensor], *, mlx: bool) -> dict[str, torch.Tensor]:
    """Under Microsoft's names; conversions for MLX lack the `model.` and turn convolutions."""
    found = {}
    for name, tensor in tensors.items():
        theirs = _microsoft_name(name)
        if mlx:
            theirs = re.sub(r"(mlp|adaLN_modulation)\.(\d)\.", r"\1.layers.\2.", theirs)
            theirs = theirs.removeprefix("model.")
        found[theirs] = _turned(tensor, theirs) if mlx else tensor
    return found


def _turned(tensor: torch.Tensor, name: str) -> torch.Tensor:
    if tensor.ndim < 3:
        return tensor
    return tensor.permute((1, 2, 0) if "convtr" in name else (0, 2, 1)).contiguous()


_MICROSOFT = (
    (r"\.audio_tower\.", ".acoustic_tokenizer."),
    (r"\.semantic_tokenizer_encoder\.", ".semantic_tokenizer.encoder."),
    (r"decoder\.stem\.conv\.", "decoder.upsample_layers.0.0.conv."),
    (r"encoder\.stem\.conv\.", "encoder.downsample_layers.0.0.conv."),
    (r"\.stem\.stage\.", ".stages.0."),
    (r"\.mixer\.conv\.", ".mixer.conv.conv.conv."),
    (r"(coder)\.head\.conv\.", r"\1.head.conv.conv."),
    (r"\.multi_modal_projector\.", ".acoustic_connector."),
    (r"connector\.linear_(\d)\.", r"connector.fc\1."),
    (r"connector\.act\.", "connector.norm."),
    (r"\.diffusion_head\.", ".prediction_head."),
    (r"\.timestep_proj\.fc1\.", ".t_embedder.mlp.0."),
    (r"\.timestep_proj\.fc2\.", ".t_embedder.mlp.2."),
    (r"(head\.layers\.\d+)\.linear\.", r"\1.adaLN_modulation.1."),
    (r"\.final_layer\.linear_1\.", ".final_layer.adaLN_modulation.1."),
    (r"\.final_layer\.linear_2\.", ".final_layer.linear."),
    (r"\.latent_(scaling|bias)_factor", r".speech_\1_factor"),
)
_LAYERS = {"conv": "downsample_layers.{}.0.conv", "convtr": "upsample_layers.{}.0.convtr"}


def _microsoft_name(name: str) -> str:
    for pattern, theirs in _MICROSOFT:
        name = re.sub(pattern, theirs, name)

    def counted(found: re.Match[str]) -> str:
        return _LAYERS.get(found[2], "stages.{}").format(int(found[1]) + 1)

    return re.sub(r"conv_layers\.(\d+)\.(convtr|conv|stage)(?=\.)", counted, name)


def build_kokoro(folder: Path, *, voices: tuple[str, ...] = ("af_test", "ef_test")) -> Path:
    """Almost as large as the real one, whose sizes are fixed; its phonemes are short."""
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_audio.tts.models.kokoro.kokoro import Model, ModelConfig

    (folder / "voices").mkdir(parents=True, exist_ok=True)
    config = _kokoro_config()
    mx.random.seed(0)
    tensors = {
        name: _calm(name, array)
        for name, array in tree_flatten(Model(ModelConfig.from_dict(config)).parameters())
    }
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    mx.save_safetensors(str(folder / "kokoro.safetensors"), tensors, metadata={"format": "mlx"})
    for voice in voices:
        style = {"voice": mx.random.normal((510, 1, 256)) * 0.3}
        mx.save_safetensors(str(folder / "voices" / f"{voice}.safetensors"), style)
    return folder


def _calm(name: str, array: Any) -> Any:
    """Constant weights, as new models have them, would overflow; long phonemes take long."""
    import mlx.core as mx

    if name.endswith("weight_v"):
        return mx.random.normal(array.shape) * 0.05
    if name.endswith("duration_proj.linear_layer.bias"):
        return array - 20
    return array


def _kokoro_config() -> dict[str, Any]:
    letters = dict.fromkeys(KOKORO_LETTERS)
    return {
        "istftnet": {
            "upsample_kernel_sizes": [20, 12],
            "upsample_rates": [10, 6],
            "gen_istft_hop_size": 5,
            "gen_istft_n_fft": 20,
            "resblock_dilation_sizes": [[1, 3, 5]],
            "resblock_kernel_sizes": [3],
            "upsample_initial_channel": 512,
        },
        "dim_in": 64,
        "dropout": 0.0,
        "hidden_dim": 512,
        "max_conv_dim": 512,
        "max_dur": 50,
        "multispeaker": True,
        "n_layer": 1,
        "n_mels": 80,
        "n_token": 178,
        "style_dim": 128,
        "text_encoder_kernel_size": 5,
        "plbert": {
            "hidden_size": 64,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "max_position_embeddings": 512,
            "num_hidden_layers": 1,
            "dropout": 0.0,
            "embedding_size": 32,
        },
        "vocab": {letter: number + 1 for number, letter in enumerate(letters)},
    }


def build_realtime(folder: Path) -> Path:
    """VibeVoice-Realtime as conversions for MLX have it, with two voices; it speaks on and on."""
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_audio.tts.models.vibevoice.config import ModelConfig
    from mlx_audio.tts.models.vibevoice.vibevoice import Model

    (folder / "voices").mkdir(parents=True, exist_ok=True)
    write_speech_tokenizer(folder)
    config = _microsoft_config(1024) | {
        "model_type": "vibevoice_streaming",
        "tts_backbone_num_hidden_layers": 1,
    }
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    mx.random.seed(0)
    tensors = dict(tree_flatten(Model(ModelConfig.from_dict(config)).parameters()))
    for name, array in tensors.items():
        if name.endswith("gamma"):
            tensors[name] = mx.full(array.shape, 0.5)
    tensors["tts_eos_classifier.fc2.bias"] = mx.array([-9.0])
    mx.save_safetensors(str(folder / "model.safetensors"), tensors, metadata={"format": "mlx"})
    for voice in ("en-Ada_woman", "de-Otto_man"):
        states = {
            f"{model}_{part}": mx.random.normal((1, 2, 3, 16) if part != "hidden" else (1, 3, 64))
            for model in ("lm", "tts_lm", "neg_tts_lm")
            for part in ("hidden", "key_0", "value_0")
        }
        mx.save_safetensors(str(folder / "voices" / f"{voice}.safetensors"), states)
    return folder
