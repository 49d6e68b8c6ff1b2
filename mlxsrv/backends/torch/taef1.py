"""A small decoder of TAEF1's kind on torch: latents become a picture, for previews."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch.nn import functional

from mlxsrv.backends.taef1_files import BLOCK, DecoderFile, Layer, find_decoder
from mlxsrv.backends.torch.precision import device_name
from mlxsrv.core.image import Pixels


def load_taef1(path: Path, channels: int) -> Taef1:
    """The decoder in a file or folder, for latents of so many channels. Raises LoadError."""
    found = find_decoder(path, channels)
    stored = load_file(found.file, device=device_name())
    return Taef1(found, {name: tensor.float() for name, tensor in stored.items()})


class Taef1:
    """Takes latents as the diffusion model works on them, not scaled and shifted for its VAE."""

    def __init__(self, file: DecoderFile, tensors: Mapping[str, torch.Tensor]) -> None:
        self._layers = file.layers
        self._tensors = tensors

    def __call__(self, latents: torch.Tensor) -> Pixels:
        """The picture of latents [1, channels, height, width]."""
        *_, picture = self.slices(latents)
        assert picture is not None
        return picture

    def slices(self, latents: torch.Tensor) -> Iterator[Pixels | None]:
        """As a call, but a layer at a time: the last `next` gives the picture, the others None."""
        # Not around a `yield`: what else runs on the thread meanwhile has a mode of its own.
        with torch.no_grad():
            x = 3 * torch.tanh(latents.float() / 3)
        for layer, path in self._layers:
            with torch.no_grad():
                x = self._run(layer, path, x)
            yield None
        yield (x[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()

    def _run(self, layer: Layer, path: str, x: torch.Tensor) -> torch.Tensor:
        if layer is Layer.CONVOLUTION:
            return self._convolved(path, x)
        if layer is Layer.RELU:
            return functional.relu(x)
        if layer is Layer.UPSAMPLING:
            return functional.interpolate(x, scale_factor=2.0)
        inner = x
        for name in BLOCK[:-1]:
            inner = functional.relu(self._convolved(f"{path}.{name}", inner))
        return functional.relu(self._convolved(f"{path}.{BLOCK[-1]}", inner) + x)

    def _convolved(self, path: str, x: torch.Tensor) -> torch.Tensor:
        weight, bias = self._tensors[f"{path}.weight"], self._tensors.get(f"{path}.bias")
        return functional.conv2d(x, weight, bias, padding=1)
