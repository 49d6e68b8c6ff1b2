"""What pictures will look like, half way: by a small decoder where there is one, else guessed."""

from __future__ import annotations

from pathlib import Path

import torch

from mlxsrv.backends import latent_preview
from mlxsrv.backends.latent_preview import LinearPreview
from mlxsrv.backends.torch.image_latents import Latents
from mlxsrv.backends.torch.image_slices import pause
from mlxsrv.backends.torch.taef1 import Taef1, load_taef1
from mlxsrv.core.image import Pixels


class Previews:
    """Makes them of one model's latents [1, channels, rows, columns]."""

    def __init__(self, latents: Latents, decoder: Path | None) -> None:
        """Raises LoadError where the decoder is not one for these latents."""
        self._latents = latents
        self._decoder: Taef1 | None = None
        if decoder is not None:
            self._decoder = load_taef1(decoder, latents.channels)
        self._linear: LinearPreview | None = None

    def picture(self, latents: torch.Tensor) -> Pixels:
        if self._decoder is None:
            return self._guess().picture(latents[0].float().cpu().numpy())
        shown = self._decoder.slices(latents)
        while (picture := next(shown)) is None:
            pause()
        return picture

    def _guess(self) -> LinearPreview:
        if self._linear is None:
            sample = latent_preview.sample(self._latents.channels)
            shown = self._latents.decoded(
                torch.from_numpy(sample)[None].to(self._latents.vae.device)
            )
            self._linear = latent_preview.fit(sample, shown)
        return self._linear
