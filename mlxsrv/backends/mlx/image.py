"""Models that make pictures, on MLX."""

from __future__ import annotations

from collections.abc import Generator

from mlxsrv.backends.base import ImageBackend
from mlxsrv.backends.checkpoint import Checkpoint
from mlxsrv.backends.image_options import ImageOptions
from mlxsrv.backends.mlx.flux_load import load_flux
from mlxsrv.backends.mlx.flux_parts import VARIANTS
from mlxsrv.backends.mlx.mflux_families import FAMILIES
from mlxsrv.backends.mlx.mflux_image import load_mflux
from mlxsrv.core.errors import LoadError


def load_image(checkpoint: Checkpoint, options: ImageOptions) -> Generator[int, None, ImageBackend]:
    """Yields the bytes read so far. Raises LoadError."""
    if checkpoint.model_type in VARIANTS:
        return (yield from load_flux(checkpoint, options))
    if checkpoint.model_type in FAMILIES:
        return (yield from load_mflux(checkpoint, options))
    raise LoadError(
        f"{checkpoint.folder.name} is a {checkpoint.model_type}, which the MLX backend can't draw "
        f"with: it takes {', '.join([*VARIANTS, *FAMILIES])}"
    )
