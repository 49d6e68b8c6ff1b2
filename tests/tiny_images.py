"""Tiny random-weight image models in exactly the folders that diffusers writes."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

WORDS = (
    "a an the of on in with and at to red green blue yellow orange purple black white grey brown "
    "pink circle square triangle star diamond ring cross heart background left right top bottom "
    "middle small large picture photo cat dog house tree sky sea sun night day"
)
GAINS = {"conv2": 0.2, "encoder.conv_out": 4.5}
CLIP_SPECIAL = ("<|startoftext|>", "<|endoftext|>")
QWEN_SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)


def write_flux(
    folder: Path,
    *,
    seed: int = 0,
    guidance: bool = False,
    dynamic_shift: bool = False,
    pipeline: str = "FluxPipeline",
    layers: tuple[int, int] = (1, 2),
    heads: int = 2,
    latent_channels: int = 16,
    vae_channels: tuple[int, ...] = (8, 8, 16, 16),
    text_width: int = 32,
    text_tokens: int = 32,
    sample_size: int = 64,
    dtype: str = "float32",
    shard: str | int = "1GB",
) -> Path:
    """A FLUX.1 of 32 dimensions a head: `schnell`, or `dev` with `guidance` and `dynamic_shift`.

    `layers` are the double and the single blocks; `text_tokens` is how long a prompt T5 takes;
    `pipeline` may be another one that takes the same parts. Files are split where they exceed
    `shard`.
    """
    diffusers = _diffusers()
    torch.manual_seed(seed)
    latent = 4 * latent_channels
    fills = pipeline == "FluxFillPipeline"
    side = 2 ** (len(vae_channels) - 1)
    transformer = diffusers.FluxTransformer2DModel(
        in_channels=2 * latent + 4 * side * side if fills else latent,
        out_channels=latent,
        num_layers=layers[0],
        num_single_layers=layers[1],
        attention_head_dim=32,
        num_attention_heads=heads,
        joint_attention_dim=text_width,
        pooled_projection_dim=text_width,
        guidance_embeds=guidance,
        axes_dims_rope=(8, 12, 12),
    )
    parts = getattr(diffusers, pipeline)(
        scheduler=_schedule(3.0 if dynamic_shift else 1.0, dynamic=dynamic_shift),
        vae=_vae(latent_channels, vae_channels, sample_size),
        text_encoder=_clip(text_width),
        tokenizer=_clip_tokenizer(),
        text_encoder_2=_t5(text_width),
        tokenizer_2=_t5_tokenizer(text_tokens),
        transformer=lively(transformer),
    )
    return _saved(parts, folder, dtype, shard)


def write_flux2_klein(folder: Path, *, distilled: bool = True, seed: int = 0) -> Path:
    """FLUX.2 klein, whose text encoder has as many layers as it reads hidden states from."""
    diffusers = _diffusers()
    torch.manual_seed(seed)
    transformer = diffusers.Flux2Transformer2DModel(
        in_channels=32,
        num_layers=1,
        num_single_layers=2,
        attention_head_dim=32,
        num_attention_heads=2,
        joint_attention_dim=96,
        timestep_guidance_channels=32,
        axes_dims_rope=(8, 8, 8, 8),
        guidance_embeds=False,
    )
    vae = diffusers.AutoencoderKLFlux2(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 16, 16),
        layers_per_block=1,
        latent_channels=8,
        norm_num_groups=4,
        sample_size=64,
    )
    vae.bn.running_mean.normal_(std=0.2)
    vae.bn.running_var.uniform_(0.5, 2.0)
    parts = diffusers.Flux2KleinPipeline(
        scheduler=_schedule(3.0, dynamic=True),
        vae=vivid(vae),
        text_encoder=_qwen3(layers=28),
        tokenizer=_qwen_tokenizer(),
        transformer=lively(transformer),
        is_distilled=distilled,
    )
    return _saved(parts, folder)


def write_z_image(folder: Path, *, turbo: bool = True, seed: int = 0) -> Path:
    diffusers = _diffusers()
    torch.manual_seed(seed)
    transformer = diffusers.ZImageTransformer2DModel(
        in_channels=16,
        dim=64,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=32,
        axes_dims=[8, 12, 12],
        axes_lens=[1024, 512, 512],
    )
    torch.nn.init.normal_(transformer.x_pad_token)
    torch.nn.init.normal_(transformer.cap_pad_token)
    parts = diffusers.ZImagePipeline(
        scheduler=_schedule(3.0 if turbo else 6.0),
        vae=_vae(16, (8, 8, 16, 16), 64),
        text_encoder=_qwen3(layers=2),
        tokenizer=_qwen_tokenizer(),
        transformer=lively(transformer),
    )
    return _saved(parts, folder)


def write_qwen_image(folder: Path, *, pipeline: str = "QwenImagePipeline", seed: int = 0) -> Path:
    """Qwen-Image; the pipelines that edit have a `processor` besides."""
    diffusers = _diffusers()
    torch.manual_seed(seed)
    transformer = diffusers.QwenImageTransformer2DModel(
        in_channels=64,
        out_channels=16,
        num_layers=2,
        attention_head_dim=32,
        num_attention_heads=2,
        joint_attention_dim=32,
        axes_dims_rope=(8, 12, 12),
    )
    vae = diffusers.AutoencoderKLQwenImage(
        base_dim=8, z_dim=16, dim_mult=[1, 1, 2, 2], num_res_blocks=1
    )
    edits = {"processor": None} if "Edit" in pipeline else {}
    parts = getattr(diffusers, pipeline)(
        scheduler=_schedule(1.0, dynamic=True, shift_terminal=0.02),
        vae=vivid(vae),
        text_encoder=_qwen_vl(),
        tokenizer=_qwen_tokenizer(),
        transformer=lively(transformer),
        **edits,
    )
    _saved(parts, folder)
    if edits:
        _write_qwen_processor(folder)
    return folder


def _write_qwen_processor(folder: Path) -> None:
    """As Qwen2VLProcessor writes itself, which can't be made without torchvision."""
    from transformers import Qwen2VLImageProcessorPil

    Qwen2VLImageProcessorPil().save_pretrained(folder / "processor")
    _qwen_tokenizer().save_pretrained(folder / "processor")
    index = json.loads((folder / "model_index.json").read_text("utf-8"))
    index["processor"] = ["transformers", "Qwen2VLProcessor"]
    (folder / "model_index.json").write_text(json.dumps(index), "utf-8")


def _schedule(shift: float, *, dynamic: bool = False, shift_terminal: float | None = None) -> Any:
    return _diffusers().FlowMatchEulerDiscreteScheduler(
        shift=shift, use_dynamic_shifting=dynamic, shift_terminal=shift_terminal
    )


def _diffusers() -> Any:
    import diffusers
    from transformers.utils import logging

    logging.disable_progress_bar()
    return diffusers


def _saved(pipeline: Any, folder: Path, dtype: str = "float32", shard: str | int = "1GB") -> Path:
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            torch.nn.Module.to(part, dtype=getattr(torch, dtype))
    pipeline.save_pretrained(folder, max_shard_size=shard)
    return folder


def _vae(latent_channels: int, channels: Sequence[int], sample_size: int) -> Any:
    vae = _diffusers().AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        block_out_channels=tuple(channels),
        layers_per_block=1,
        latent_channels=latent_channels,
        norm_num_groups=4,
        sample_size=sample_size,
        scaling_factor=0.3611,
        shift_factor=0.1159,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    return vivid(vae)


def _clip(width: int) -> Any:
    """Text is read up to the token with the highest id, as FLUX.1's own folders have it."""
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=len(_clip_vocabulary()),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=77,
        projection_dim=width,
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=1,
    )
    return lively(CLIPTextModel(config))


def _t5(width: int) -> Any:
    from transformers import T5Config, T5EncoderModel

    config = T5Config(
        vocab_size=len(_t5_pieces()),
        d_model=width,
        d_kv=width // 2,
        d_ff=2 * width,
        num_layers=2,
        num_heads=2,
        feed_forward_proj="gated-gelu",
        is_encoder_decoder=False,
        use_cache=False,
        tie_word_embeddings=False,
    )
    return lively(T5EncoderModel(config))


def lively(model: Any) -> Any:
    """New models are so even that a prompt hardly changes what they make."""
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if tensor.ndim == 2:
                scale = 1.0 if "embed" in name or "shared" in name else tensor.shape[1] ** -0.5
                tensor.normal_(std=scale)
    return model.eval()


def vivid(vae: Any) -> Any:
    """New decoders make grey pictures. What blocks add stays small, so that colours follow from
    latents as plainly as in a decoder that has learned something; latents are as large as noise.
    """
    with torch.no_grad():
        for name, tensor in vae.named_parameters():
            if tensor.ndim >= 4 and tensor.numel() > tensor.shape[0]:
                scale = next((scale for part, scale in GAINS.items() if part in name), 1.4)
                tensor.normal_(std=scale / math.sqrt(tensor[0].numel()))
    return vae.eval()


def _clip_tokenizer() -> Any:
    from transformers import CLIPTokenizer

    return CLIPTokenizer(vocab=_clip_vocabulary(), merges=[], model_max_length=77)


def _clip_vocabulary() -> dict[str, int]:
    """Bytes, bytes that end a word, and the marks of a text's ends."""
    from tokenizers import pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *CLIP_SPECIAL]
    return {token: number for number, token in enumerate(tokens)}


def _t5_tokenizer(tokens: int) -> Any:
    from transformers import T5Tokenizer

    return T5Tokenizer(vocab=_t5_pieces(), extra_ids=0, model_max_length=tokens)


def _t5_pieces() -> list[tuple[str, float]]:
    """A few words, and every printable letter of ASCII for the others."""
    letters = [chr(code) for code in range(33, 127)]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(f"▁{word}", -3.0) for word in WORDS.split() if len(word) > 1]
    return pieces + [(letter, -6.0) for letter in letters]


def _qwen3(layers: int) -> Any:
    from transformers import Qwen3Config, Qwen3Model

    return lively(Qwen3Model(Qwen3Config(**_qwen_sizes(layers), head_dim=16)))


def _qwen_vl() -> Any:
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    config = Qwen2_5_VLConfig(
        text_config=_qwen_sizes(2)
        | {"rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3]}},
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": 32,
            "fullatt_block_indexes": [1],
        },
        **{
            f"{name}_token_id": _qwen_vocabulary()[f"<|{token}|>"]
            for name, token in (
                ("image", "image_pad"),
                ("video", "video_pad"),
                ("vision_start", "vision_start"),
                ("vision_end", "vision_end"),
            )
        },
    )
    return lively(Qwen2_5_VLForConditionalGeneration(config))


def _qwen_sizes(layers: int) -> dict[str, Any]:
    return {
        "vocab_size": len(_qwen_vocabulary()),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": False,
    }


def _qwen_tokenizer() -> Any:
    from transformers import Qwen2Tokenizer

    from tests.tiny_models import CHAT_TEMPLATE

    return Qwen2Tokenizer(
        vocab=_qwen_vocabulary(),
        merges=[],
        extra_special_tokens=list(QWEN_SPECIAL),
        chat_template=CHAT_TEMPLATE,
        model_max_length=2048,
    )


def _qwen_vocabulary() -> dict[str, int]:
    from tokenizers import pre_tokenizers

    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *QWEN_SPECIAL]
    return {token: number for number, token in enumerate(tokens)}
