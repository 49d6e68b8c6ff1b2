"""VibeVoice's networks on torch, which are those of transformers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from transformers import (
    DynamicCache,
    VibeVoiceConfig,
    VibeVoiceForConditionalGeneration,
)
from transformers.models.vibevoice_acoustic_tokenizer.modeling_vibevoice_acoustic_tokenizer import (
    VibeVoiceAcousticTokenizerConv1dPaddingCache as PaddingCache,
)
from transformers.utils import logging as transformers_logging

from mlxsrv.backends.base import ModelFacts
from mlxsrv.backends.checkpoint import Checkpoint
from mlxsrv.backends.torch.encoder import loading_errors
from mlxsrv.backends.torch.precision import device_name, dtype_for, threads_for, use_threads
from mlxsrv.backends.vibevoice import VibeVoiceBackend
from mlxsrv.backends.vibevoice_files import (
    Coder,
    VibeVoiceSizes,
    our_name,
    read_sizes,
    read_tokenizer,
)
from mlxsrv.backends.weights import weight_files

Floats = NDArray[np.float32]


class TorchVibeVoice:
    """Implements `VibeVoiceNet`; see there for the contract."""

    def __init__(self, model: VibeVoiceForConditionalGeneration, *, threads: int) -> None:
        self._lm_head = model.lm_head
        self._model = model.model
        self._threads = threads

    def new_cache(self) -> DynamicCache:
        return DynamicCache(config=self._model.language_model.config)

    def new_state(self) -> PaddingCache:
        return PaddingCache()

    @torch.inference_mode()
    def embed(self, tokens: Sequence[int]) -> torch.Tensor:
        ids = torch.tensor([list(tokens)], device=self._model.device)
        return self._model.get_input_embeddings()(ids)

    @torch.inference_mode()
    def feed(self, embeddings: torch.Tensor, cache: DynamicCache) -> torch.Tensor:
        use_threads(self._threads)
        found = self._model.language_model(
            inputs_embeds=embeddings, past_key_values=cache, use_cache=True
        )
        return found.last_hidden_state[:, -1]

    @torch.inference_mode()
    def scores(self, hidden: torch.Tensor, tokens: Sequence[int]) -> list[float]:
        wanted: list[float] = self._lm_head(hidden)[0, list(tokens)].float().tolist()
        return wanted

    @torch.inference_mode()
    def velocity(self, latent: Floats, time: int, conditions: Sequence[torch.Tensor]) -> Floats:
        condition = torch.cat(list(conditions))
        rows = len(conditions)
        shown = self._tensor(latent).expand(rows, -1)
        times = torch.full((rows,), time, device=condition.device, dtype=condition.dtype)
        return _floats(self._model.diffusion_head(shown, times, condition=condition))

    @torch.inference_mode()
    def encode(self, samples: Floats, state: PaddingCache) -> Floats:
        use_threads(self._threads)
        encoder = self._model.audio_tower.encoder
        sound = self._tensor(samples)[None, None]
        return _floats(encoder(sound, padding_cache=state, use_cache=True).latents[0])

    @torch.inference_mode()
    def project(self, latents: Floats) -> torch.Tensor:
        scaled = (self._tensor(latents) + self._model.latent_bias_factor) * self._scale
        return self._model.multi_modal_projector(scaled)[None]

    @torch.inference_mode()
    def decode(self, latent: Floats, state: PaddingCache) -> Floats:
        use_threads(self._threads)
        plain = self._tensor(latent) / self._scale - self._model.latent_bias_factor
        decoder = self._model.audio_tower.decoder
        return _floats(
            decoder(plain[None, :, None], padding_cache=state, use_cache=True).audio[0, 0]
        )

    @torch.inference_mode()
    def echo(self, latent: Floats, samples: Floats, state: PaddingCache) -> torch.Tensor:
        sound = self._tensor(samples)[None, None]
        listener = self._model.semantic_tokenizer_encoder
        meaning = listener(sound, padding_cache=state, use_cache=True).latents
        spoken = self._model.multi_modal_projector(self._tensor(latent)[None, None])
        return spoken + self._model.semantic_connector(meaning)

    @property
    def _scale(self) -> torch.Tensor:
        return self._model.latent_scaling_factor

    def _tensor(self, values: Floats) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(
            self._model.device, self._lm_head.weight.dtype
        )


def _floats(values: torch.Tensor) -> Floats:
    found: Floats = values.float().cpu().numpy()
    return found


def load_vibevoice(
    checkpoint: Checkpoint,
) -> VibeVoiceBackend[torch.Tensor, DynamicCache, PaddingCache]:
    """Loads a folder of either layout. Raises LoadError."""
    folder = checkpoint.folder
    sizes = read_sizes(folder)
    tokenizer = read_tokenizer(folder)
    device = device_name()
    dtype = dtype_for(device, checkpoint.weight_bytes)
    transformers_logging.disable_progress_bar()
    with loading_errors(folder):
        config = _config(sizes)
        with torch.device("meta"):
            shapes = VibeVoiceForConditionalGeneration(config).state_dict()
        tensors = {our_name(name): tensor for name, tensor in _tensors(folder)}
        if config.tie_word_embeddings:
            tensors["lm_head.weight"] = tensors["model.language_model.embed_tokens.weight"]
        if isinstance(dtype, str):  # as stored
            dtype = tensors["lm_head.weight"].dtype
        placed = {
            name: turned(tensors[name], shape.shape).to(dtype) for name, shape in shapes.items()
        }
        model = VibeVoiceForConditionalGeneration.from_pretrained(
            None, config=config, state_dict=placed, dtype=dtype
        )
        net = TorchVibeVoice(model.to(device).eval(), threads=threads_for(checkpoint.weight_bytes))
    facts = ModelFacts(
        backend="torch",
        vocab_size=sizes.text["vocab_size"],
        memory_bytes=sum(tensor.nbytes for tensor in placed.values()),
        dtype=str(dtype).removeprefix("torch."),
    )
    return VibeVoiceBackend(net, sizes, tokenizer, facts)


def _tensors(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    for file in weight_files(folder):
        yield from load_file(file).items()


def turned(tensor: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """A tensor with its axes as torch has them; MLX has a convolution's inputs last.

    Raises ValueError where no turn makes it fit.
    """
    for axes in ((), (0, 2, 1), (2, 0, 1)):
        if len(axes) in (0, tensor.ndim):
            found = tensor.permute(axes) if axes else tensor
            if found.shape == shape:
                return found.contiguous()
    raise ValueError(f"a tensor is {tuple(tensor.shape)} where {tuple(shape)} is wanted")


def _config(sizes: VibeVoiceSizes) -> VibeVoiceConfig:
    return VibeVoiceConfig(
        text_config={"model_type": "qwen2", **sizes.text},
        audio_config=_coder(sizes.acoustic),
        semantic_model_config=_coder(sizes.semantic, "_encoder"),
        diffusion_head_config={
            "model_type": "vibevoice_diffusion",
            "num_hidden_layers": sizes.head_layers,
            "intermediate_size": sizes.head_inner,
            "rms_norm_eps": sizes.head_eps,
        },
    )


def _coder(coder: Coder, half: str = "") -> dict[str, object]:
    return {
        "model_type": f"vibevoice_acoustic_tokenizer{half}",
        "hidden_size": coder.latent,
        "num_filters": coder.filters,
        "downsampling_ratios": list(coder.ratios),
        "depths": list(coder.depths),
        "rms_norm_eps": coder.eps,
    }
