"""What a picture under way will look like, on MLX."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import mlx.core as mx
import numpy as np

from mlxsrv.backends.latent_preview import LinearPreview, fit, sample
from mlxsrv.backends.mlx.pieces import Pace
from mlxsrv.backends.mlx.taef1 import Taef1, load_taef1
from mlxsrv.backends.mlx.vae import Vae, picture_of
from mlxsrv.core.image import Pixels


class Previews:
    """Made by the small decoder in a file or folder, else by a linear guess that is fitted to the
    model's own at first use."""

    def __init__(self, vae: Vae, channels: int, decoder: Path | None, slice_seconds: float) -> None:
        """Latents have so many `channels`. Raises LoadError."""
        self._vae = vae
        self._channels = channels
        self._seconds = slice_seconds
        self._decoder: Taef1 | None = None if decoder is None else load_taef1(decoder, channels)
        self._linear: LinearPreview | None = None

    def of(self, latents: mx.array) -> Generator[None, None, Pixels]:
        """Of latents [1, height, width, channels]; one `next` is one slice."""
        if self._decoder is not None:
            return (yield from _last(self._decoder.slices(latents)))
        if self._linear is None:
            self._linear = yield from self._fitted()
        return self._linear.picture(np.array(latents[0].transpose(2, 0, 1)))

    def _fitted(self) -> Generator[None, None, LinearPreview]:
        latents = sample(self._channels)
        cells = mx.array(latents).transpose(1, 2, 0)[None]
        decoded = yield from Pace(self._seconds).run(self._vae.decode(cells))
        return fit(latents, picture_of(decoded))


def _last(slices: Iterator[Pixels | None]) -> Generator[None, None, Pixels]:
    for picture in slices:
        if picture is not None:
            return picture
        yield
    raise AssertionError("a decoder ends with a picture")
