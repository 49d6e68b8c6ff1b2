"""Loading a text checkpoint with transformers."""

from __future__ import annotations

import os
from inspect import signature
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from mlxsrv.backends.pacing import PrefillPacer
from mlxsrv.backends.torch.text import TorchTextBackend
from mlxsrv.core.errors import LoadError

SMALL_BYTES = 1_000_000_000
ONE_THREAD_BYTES = 64_000_000
"""Below this the threads of one operation cost more to wake than they save."""


def load_text(folder: Path, *, weight_bytes: int, pacer: PrefillPacer) -> TorchTextBackend:
    """Loads a Hugging Face folder of safetensors. Raises LoadError."""
    transformers_logging.disable_progress_bar()
    torch.set_num_threads(1 if weight_bytes < ONE_THREAD_BYTES else os.cpu_count() or 1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=_dtype(device, weight_bytes),
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
        )
        model = model.to(device).eval()
    except (ValueError, KeyError, TypeError, RuntimeError, OSError, ImportError) as error:
        raise LoadError(f"torch can't load {folder.name}: {error}") from error
    if "cache_params" in signature(model.forward).parameters:
        raise LoadError(
            f"{folder.name} is a purely recurrent model, whose prompts torch can't take in chunks: "
            "serve it with --backend mlx"
        )
    vocab_size = model.get_output_embeddings().weight.shape[0]
    return TorchTextBackend(model, vocab_size, pacer=pacer)


def _dtype(device: str, weight_bytes: int) -> torch.dtype | str:
    """float32 for small models on the CPU, where it is exact and as fast; else as stored.

    bfloat16 reads half the memory per token, which is what large models wait for; float16
    has no fast kernels on the CPU, so it is widened too.
    """
    if device == "cpu":
        return torch.float32 if weight_bytes < SMALL_BYTES else torch.bfloat16
    return "auto"
