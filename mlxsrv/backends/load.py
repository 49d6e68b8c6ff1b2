"""Loading a checkpoint on the backend that was chosen. Runs on the device thread.

A load is a generator, so that what else runs on the device goes on meanwhile: it yields the
bytes that are in place so far, and returns the backend.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Generator
from typing import TypeVar

from mlxsrv.backends.base import (
    EmbeddingBackend,
    ImageBackend,
    RerankBackend,
    SpeechBackend,
    TextBackend,
    TranscriptionBackend,
)
from mlxsrv.backends.checkpoint import ESPEAK, Checkpoint
from mlxsrv.backends.footprint import Footprint, estimate
from mlxsrv.backends.image_footprint import estimate_image
from mlxsrv.backends.image_options import ImageOptions
from mlxsrv.backends.pacing import PrefillPacer
from mlxsrv.backends.select import Backend
from mlxsrv.core.collector import uncollected
from mlxsrv.core.errors import LoadError
from mlxsrv.core.kinds import TEXT_KINDS, Kind

ESPEAK_BYTES = 8_000_000
"""While it speaks: a dictionary, and half a minute of sound."""

T = TypeVar("T")
Loading = Generator[int, None, T]


def load_text(
    backend: Backend, checkpoint: Checkpoint, *, pacer: PrefillPacer
) -> Loading[TextBackend]:
    """Raises LoadError."""
    _require_readable(backend, checkpoint)
    if backend == "mlx":
        from mlxsrv.backends.mlx import load as mlx

        return (yield from mlx.load_text(checkpoint.folder, pacer=pacer))
    from mlxsrv.backends.torch import load as torch

    yield 0
    return torch.load_text(checkpoint.folder, weight_bytes=checkpoint.weight_bytes, pacer=pacer)


def load_embedding(backend: Backend, checkpoint: Checkpoint) -> Loading[EmbeddingBackend]:
    """Raises LoadError."""
    _require_readable(backend, checkpoint)
    if backend == "mlx":
        from mlxsrv.backends.mlx import embedding as mlx

        return (yield from mlx.load_embedding(checkpoint))
    from mlxsrv.backends.torch import embedding as torch

    yield 0
    return torch.load_embedding(checkpoint)


def load_rerank(backend: Backend, checkpoint: Checkpoint) -> Loading[RerankBackend]:
    """Raises LoadError."""
    _require_readable(backend, checkpoint)
    if backend == "mlx":
        from mlxsrv.backends.mlx import rerank as mlx

        return (yield from mlx.load_rerank(checkpoint))
    from mlxsrv.backends.torch import rerank as torch

    yield 0
    return torch.load_rerank(checkpoint)


def load_transcription(backend: Backend, checkpoint: Checkpoint) -> Loading[TranscriptionBackend]:
    """Raises LoadError."""
    _require_readable(backend, checkpoint)
    if backend == "mlx":
        from mlxsrv.backends.mlx import transcription as mlx

        return (yield from mlx.load_transcription(checkpoint))
    from mlxsrv.backends.torch import transcription as torch

    yield 0
    return torch.load_transcription(checkpoint)


def load_speech(backend: Backend, checkpoint: Checkpoint) -> Loading[SpeechBackend]:
    """Raises LoadError."""
    if checkpoint.model_type == ESPEAK:
        from mlxsrv.backends.espeak import load_espeak

        yield 0
        return load_espeak(backend, checkpoint)
    _require_readable(backend, checkpoint)
    if backend == "mlx":
        from mlxsrv.backends.mlx import speech as mlx

        return (yield from mlx.load_speech(checkpoint))
    from mlxsrv.backends.torch import speech as torch

    yield 0
    return torch.load_speech(checkpoint)


def import_image(backend: Backend, checkpoint: Checkpoint) -> None:
    """Imports what a model is made of: seconds, in which others have the device thread where
    another one does it. Raises LoadError."""
    if backend == "torch":
        with uncollected():
            from transformers.utils import logging

            # It tells of libraries that would be another way to do what works.
            logging.set_verbosity_error()
            from mlxsrv.backends.torch import image as torch

            torch.import_parts(checkpoint)


def load_image(
    backend: Backend, checkpoint: Checkpoint, options: ImageOptions
) -> Loading[ImageBackend]:
    """Raises LoadError."""
    _require_readable(backend, checkpoint)
    if backend == "mlx":
        from mlxsrv.backends.mlx import image as mlx

        return (yield from mlx.load_image(checkpoint, options))
    from mlxsrv.backends.torch import image as torch

    return (yield from torch.load_image(checkpoint, options))


def finished(loading: Loading[T]) -> T:
    """Runs a load to its end."""
    while True:
        try:
            next(loading)
        except StopIteration as end:
            result: T = end.value
            return result


def _require_readable(backend: Backend, checkpoint: Checkpoint) -> None:
    if backend == "torch" and checkpoint.mlx_quantized:
        raise LoadError(
            f"{checkpoint.folder.name} is quantised for MLX, which the torch backend can't read: "
            "serve it with --backend mlx, or use the unquantised checkpoint"
        )


def footprint(
    backend: Backend, checkpoint: Checkpoint, kind: Kind, quantize: int | None = None
) -> Footprint:
    """What the checkpoint will take on this backend; an image model may be packed to `quantize`
    bits as they are loaded."""
    if checkpoint.model_type == ESPEAK:
        return Footprint(checkpoint.weight_bytes, activations=ESPEAK_BYTES)
    if backend == "mlx":
        from mlxsrv.backends.mlx import memory as mlx

        residence = mlx.residence(checkpoint)
    else:
        from mlxsrv.backends.torch import memory as torch

        residence = torch.residence(checkpoint)
    if kind is Kind.IMAGE:
        return estimate_image(checkpoint, residence, quantize)
    return estimate(checkpoint, residence, caches=kind in TEXT_KINDS)


def free(backend: Backend) -> None:
    """Gives memory that closed models left behind back to the system."""
    gc.collect()
    if backend == "mlx":
        from mlxsrv.backends.mlx import memory as mlx

        mlx.free()
    if sys.platform == "linux":
        # glibc keeps what was freed, for itself.
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def at_thread_exit(backend: Backend) -> None:
    """What the backend needs done last on the device thread."""
    if backend == "mlx":
        from mlxsrv.backends.mlx import load as mlx

        mlx.at_thread_exit()
