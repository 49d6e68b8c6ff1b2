"""The model while it is trained, and as the diffusers folder that is served."""

from __future__ import annotations

import torch
from diffusers import FluxTransformer2DModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from .tokens import LENGTH
from .vae import CHANNELS

#: Widths of the text encoders.
WIDTH = 128
#: Heads of the transformer, the width of each, and its layers of the two kinds.
HEADS, HEAD = 5, 32
DOUBLE, SINGLE = 2, 4


def make_clip_encoder(vocab_size: int) -> CLIPTextModel:
    """Make CLIP's encoder; the last two token numbers are the start and the end."""
    config = CLIPTextConfig(
        vocab_size=vocab_size,
        hidden_size=WIDTH,
        intermediate_size=3 * WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=LENGTH,
        hidden_act="quick_gelu",
        bos_token_id=vocab_size - 2,
        eos_token_id=vocab_size - 1,
        pad_token_id=vocab_size - 1,
    )
    return CLIPTextModel(config)


def make_t5_encoder(vocab_size: int) -> T5EncoderModel:
    """Make T5's encoder, of the kind of version 1.1."""
    config = T5Config(
        vocab_size=vocab_size,
        d_model=WIDTH,
        d_kv=32,
        d_ff=2 * WIDTH,
        num_layers=3,
        num_heads=4,
        relative_attention_num_buckets=32,
        relative_attention_max_distance=LENGTH,
        dropout_rate=0.0,
        feed_forward_proj="gated-gelu",
        is_encoder_decoder=False,
        use_cache=False,
        tie_word_embeddings=False,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
    )
    return T5EncoderModel(config)


def make_transformer() -> FluxTransformer2DModel:
    """Make FLUX.1's transformer; every block begins as an identity, as in DiT (2212.09748)."""
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=4 * CHANNELS,
        num_layers=DOUBLE,
        num_single_layers=SINGLE,
        attention_head_dim=HEAD,
        num_attention_heads=HEADS,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        guidance_embeds=False,
        axes_dims_rope=(8, 12, 12),
    )
    for name, module in transformer.named_modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
            if name == "proj_out" or ("norm" in name and name.endswith("linear")):
                nn.init.zeros_(module.weight)
    return transformer


def image_ids(high: int, wide: int) -> torch.Tensor:
    """Return the places (tokens, 3) of image tokens: nothing, row and column."""
    ids = torch.zeros(high, wide, 3)
    ids[..., 1] = torch.arange(high)[:, None]
    ids[..., 2] = torch.arange(wide)[None, :]
    return ids.flatten(0, 1)


def pack(latents: torch.Tensor) -> torch.Tensor:
    """Pack latents (batch, channels, high, wide) as tokens of two by two of them each."""
    batch, channels, high, wide = latents.shape
    squares = latents.view(batch, channels, high // 2, 2, wide // 2, 2)
    return squares.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * 4)


class Painter(nn.Module):
    """The transformer and both text encoders, trained together."""

    def __init__(self, clip_words: int, t5_words: int) -> None:
        super().__init__()
        self.clip = make_clip_encoder(clip_words)
        self.t5 = make_t5_encoder(t5_words)
        self.transformer = make_transformer()

    def forward(
        self, noisy: torch.Tensor, sigmas: torch.Tensor, clip: torch.Tensor, t5: torch.Tensor
    ) -> torch.Tensor:
        """Predict noise less picture, packed, from noisy latents (batch, channels, high, wide).

        ``sigmas`` (batch) are from 0 to 1; ``clip`` and ``t5`` are token numbers (batch, LENGTH).
        """
        tokens = pack(noisy)
        out: torch.Tensor = self.transformer(
            hidden_states=tokens,
            timestep=sigmas,
            pooled_projections=self.clip(input_ids=clip).pooler_output,
            encoder_hidden_states=self.t5(input_ids=t5).last_hidden_state,
            txt_ids=torch.zeros(LENGTH, 3),
            img_ids=image_ids(noisy.shape[2] // 2, noisy.shape[3] // 2),
            return_dict=False,
        )[0]
        return out
