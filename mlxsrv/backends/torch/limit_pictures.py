"""What diffusers' own pipeline reaches."""

from __future__ import annotations

import io
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import FluxPipeline

from mlxsrv.backends.noise import noise
from mlxsrv.backends.torch.precision import threads_for


class TorchPicturesLimit:
    """Implements `PicturesLimit`; see there for the contract. Threads and precision are those of
    the server, and so is the noise that a picture begins as."""

    def __init__(self, folder: Path) -> None:
        self._pipeline = FluxPipeline.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True
        )
        self._pipeline.set_progress_bar_config(disable=True)
        parts = (self._pipeline.transformer, self._pipeline.vae, self._pipeline.text_encoder_2)
        nbytes = sum(weight.nbytes for part in parts for weight in part.parameters())
        torch.set_num_threads(threads_for(nbytes))

    def draw(self, prompt: str, side: int, steps: int, seed: int) -> tuple[float, float]:
        began = time.perf_counter()
        picture = self._pipeline(
            prompt,
            height=side,
            width=side,
            num_inference_steps=steps,
            latents=self._latents(side, seed),
            max_sequence_length=min(512, self._pipeline.tokenizer_2.model_max_length),
        ).images[0]
        picture.save(io.BytesIO(), "PNG")
        return time.perf_counter() - began, float(np.asarray(picture).mean())

    def _latents(self, side: int, seed: int) -> torch.Tensor:
        channels = self._pipeline.transformer.config.in_channels // 4
        cells = side // self._pipeline.vae_scale_factor
        loose = torch.from_numpy(noise(seed, (channels, cells, cells)))[None]
        return self._pipeline._pack_latents(loose, 1, channels, cells, cells)
