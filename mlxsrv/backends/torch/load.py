"""Loading a text checkpoint with transformers."""

from __future__ import annotations

from inspect import signature
from pathlib import Path

from transformers import AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from mlxsrv.backends.pacing import PrefillPacer
from mlxsrv.backends.torch.precision import device_name, dtype_for, threads_for
from mlxsrv.backends.torch.text import TorchTextBackend
from mlxsrv.core.errors import LoadError


def load_text(folder: Path, *, weight_bytes: int, pacer: PrefillPacer) -> TorchTextBackend:
    """Loads a Hugging Face folder of safetensors. Raises LoadError."""
    transformers_logging.disable_progress_bar()
    device = device_name()
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype_for(device, weight_bytes),
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
    return TorchTextBackend(model, vocab_size, pacer=pacer, threads=threads_for(weight_bytes))
