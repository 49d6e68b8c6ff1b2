"""Loading a FLUX.1 folder on MLX."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import mlx.core as mx

from mlxsrv.backends.checkpoint import Checkpoint
from mlxsrv.backends.flow import read_schedule
from mlxsrv.backends.image_footprint import estimate_image
from mlxsrv.backends.image_habits import flux1_tokens
from mlxsrv.backends.image_options import ImageOptions
from mlxsrv.backends.jsonfile import read_object
from mlxsrv.backends.mlx.encoder_load import loading_errors
from mlxsrv.backends.mlx.flux import FluxShape, flux_shape
from mlxsrv.backends.mlx.flux_files import after, load_transformer, load_vae
from mlxsrv.backends.mlx.flux_image import MlxFluxBackend
from mlxsrv.backends.mlx.flux_parts import VARIANTS, FluxParts, Variant
from mlxsrv.backends.mlx.flux_texts import FluxTexts
from mlxsrv.backends.mlx.memory import recommended, residence
from mlxsrv.backends.mlx.vae import VaeShape, vae_shape
from mlxsrv.core.errors import LoadError


def load_flux(
    checkpoint: Checkpoint, options: ImageOptions
) -> Generator[int, None, MlxFluxBackend]:
    """Loads a folder as diffusers writes it, quantised by MLX or not; yields the bytes read.

    Raises LoadError.
    """
    folder, variant = checkpoint.folder, VARIANTS[checkpoint.model_type]
    _wire()
    with loading_errors(folder):
        shape = flux_shape(read_object(folder / "transformer" / "config.json"))
        latents = vae_shape(read_object(folder / "vae" / "config.json"))
    schedule = read_schedule(read_object(folder / "scheduler" / "scheduler_config.json"))
    texts = FluxTexts(
        folder,
        flux1_tokens(guided=shape.guidance),
        bits=options.quantize,
        staged=options.staged,
        staged_bytes=_staged_bytes(checkpoint, options),
        slice_seconds=options.slice_seconds,
    )
    _require_fit(folder, variant, shape, latents, texts)
    _, read = yield from after(0, texts.load())
    vae, read = yield from after(read, load_vae(folder / "vae"))
    transformer, _ = yield from after(
        read, load_transformer(folder / "transformer", options.quantize)
    )
    parts = FluxParts(variant, shape, latents, schedule, transformer, vae, texts)
    return MlxFluxBackend(parts, options)


def _staged_bytes(checkpoint: Checkpoint, options: ImageOptions) -> int:
    whole = estimate_image(checkpoint, residence(checkpoint), options.quantize)
    if not options.staged or whole.staged is None:
        return 0
    return whole.weights - whole.staged.weights


def _wire() -> None:
    """Metal may page weights out again unless they are wired."""
    memory = recommended()
    if memory is not None:
        mx.set_wired_limit(memory.nbytes)


def _require_fit(
    folder: Path, variant: Variant, shape: FluxShape, latents: VaeShape, texts: FluxTexts
) -> None:
    pairs = {
        "inputs of a token": (shape.inputs, variant.inputs(latents)),
        "outputs of a token": (shape.outputs, latents.latents * 4),
        "T5's numbers a token": (shape.text_width, texts.shape.width),
        "CLIP's numbers": (shape.pooled_width, texts.pooled_width),
    }
    for what, (taken, given) in pairs.items():
        if taken != given:
            raise LoadError(
                f"the parts of {folder.name} don't fit: the transformer has {taken} {what}, the "
                f"others {given}"
            )
