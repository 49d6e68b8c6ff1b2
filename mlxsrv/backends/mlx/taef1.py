"""A small decoder of TAEF1's kind on MLX: latents become a picture, for previews."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import mlx.core as mx
import numpy as np

from mlxsrv.backends.mlx.convolution import convolved
from mlxsrv.backends.mlx.memory import on_cpu
from mlxsrv.backends.taef1_files import BLOCK, DecoderFile, Layer, find_decoder
from mlxsrv.core.image import Pixels


def load_taef1(path: Path, channels: int) -> Taef1:
    """The decoder in a file or folder, for latents of so many channels. Raises LoadError."""
    found = find_decoder(path, channels)
    stored = mx.load(str(found.file))
    dtype = mx.float32 if on_cpu() else mx.float16
    arrays = {}
    for convolution in found.convolutions():
        arrays[convolution] = stored[f"{convolution}.weight"].transpose(0, 2, 3, 1).astype(dtype)
        if f"{convolution}.bias" in stored:
            arrays[f"{convolution}.bias"] = stored[f"{convolution}.bias"].astype(dtype)
    mx.eval(arrays)
    return Taef1(found, arrays, dtype)


class Taef1:
    """Takes latents as the diffusion model works on them, not scaled and shifted for its VAE."""

    def __init__(self, file: DecoderFile, arrays: dict[str, mx.array], dtype: mx.Dtype) -> None:
        self._layers = file.layers
        self._arrays = arrays
        self._dtype = dtype

    def __call__(self, latents: mx.array) -> Pixels:
        """The picture of latents [1, height, width, channels]."""
        *_, picture = self.slices(latents)
        assert picture is not None
        return picture

    def slices(self, latents: mx.array) -> Iterator[Pixels | None]:
        """As a call, but a layer at a time: the last `next` gives the picture, the others None."""
        x = 3 * mx.tanh(latents.astype(self._dtype) / 3)
        for layer, path in self._layers:
            x = self._run(layer, path, x)
            mx.eval(x)
            yield None
        yield np.array((mx.clip(x[0], 0, 1) * 255).round().astype(mx.uint8))

    def _run(self, layer: Layer, path: str, x: mx.array) -> mx.array:
        if layer is Layer.CONVOLUTION:
            return self._convolved(path, x)
        if layer is Layer.RELU:
            return mx.maximum(x, 0)
        if layer is Layer.UPSAMPLING:
            return mx.repeat(mx.repeat(x, 2, axis=1), 2, axis=2)
        inner = x
        for name in BLOCK[:-1]:
            inner = mx.maximum(self._convolved(f"{path}.{name}", inner), 0)
        return mx.maximum(self._convolved(f"{path}.{BLOCK[-1]}", inner) + x, 0)

    def _convolved(self, path: str, x: mx.array) -> mx.array:
        return convolved(x, self._arrays[path], self._arrays.get(f"{path}.bias"))
