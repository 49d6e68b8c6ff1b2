"""Decoders of TAEF1's kind as they are published: small ones, for previews.

Layouts: the author's, a file of numbered layers (https://github.com/madebyollin/taesd), and
diffusers', a folder of an `AutoencoderTiny`. Both are the same layers; what each is and how wide
is read from the tensors.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from mlxsrv.backends.headers import Tensor, read_header
from mlxsrv.backends.jsonfile import read_optional
from mlxsrv.core.errors import LoadError

DTYPES = frozenset({"F32", "F16", "BF16"})

MAX_UPSAMPLINGS = 3
"""A latent cell is 8x8 pixels."""

_DIFFUSERS_FILE = "diffusion_pytorch_model.safetensors"
_PREFIX = "decoder.layers."
_NUMBERED = re.compile(r"(?P<number>\d{1,3})\.(?P<rest>.+)")
BLOCK = ("conv.0", "conv.2", "conv.4")
"""The convolutions of a block."""

_AS_TRAINED = {
    "act_fn": "relu",
    "upsample_fn": "nearest",
    "upsampling_scaling_factor": 2,
    "scaling_factor": 1.0,
    "shift_factor": 0.0,
    "out_channels": 3,
}
"""What diffusers' config may say otherwise, and no published decoder of this kind does."""


class Layer(Enum):
    CONVOLUTION = "3x3, padded"
    BLOCK = "three convolutions with ReLUs between, added to the input, a ReLU"
    RELU = "ReLU"
    UPSAMPLING = "every cell becomes 2x2"


@dataclass(frozen=True, slots=True)
class DecoderFile:
    """A decoder's layers in order, each with what its tensors' names begin with.

    First of all latents are squeezed: `3 * tanh(x / 3)`. What comes out is in 0..1.
    """

    file: Path
    layers: tuple[tuple[Layer, str], ...]

    def convolutions(self) -> Iterator[str]:
        """What the names of their `.weight`, and of their `.bias` if any, begin with."""
        for layer, path in self.layers:
            if layer is Layer.CONVOLUTION:
                yield path
            elif layer is Layer.BLOCK:
                yield from (f"{path}.{name}" for name in BLOCK)


def find_decoder(path: Path, channels: int) -> DecoderFile:
    """The decoder in a file or folder, for latents of so many channels. Raises LoadError."""
    file = _file(path)
    tensors = {tensor.name: tensor for tensor in read_header(file)}
    prefix = ""
    if any(name.startswith(_PREFIX) for name in tensors):
        prefix = _PREFIX
        _require_as_trained(file)
        tensors = {name: item for name, item in tensors.items() if name.startswith(prefix)}
    found = DecoderFile(file, tuple(_layers(file, _numbered(tensors, prefix), prefix)))
    _require_fit(found, tensors, channels)
    return found


def _file(path: Path) -> Path:
    if path.is_file():
        return path
    files = [path / _DIFFUSERS_FILE, *sorted(path.glob("*decoder*.safetensors"))]
    found = next((file for file in files if file.is_file()), None)
    if found is None:
        raise LoadError(
            f"{path} holds no decoder for previews: give a taef1_decoder.safetensors, or the "
            "folder of an AutoencoderTiny"
        )
    return found


def _require_as_trained(file: Path) -> None:
    config_file = file.parent / "config.json"
    config = read_optional(config_file)
    for key, expected in _AS_TRAINED.items():
        if config.get(key, expected) != expected:
            raise LoadError(f"{config_file}: only {key} = {expected} is served for previews")


def _numbered(names: Iterable[str], prefix: str) -> dict[int, set[str]]:
    """The rest of the tensors' names, by the number of their layer."""
    layers: dict[int, set[str]] = {}
    for name in names:
        found = _NUMBERED.fullmatch(name.removeprefix(prefix))
        if found is not None:
            layers.setdefault(int(found["number"]), set()).add(found["rest"])
    return layers


def _layers(
    file: Path, numbered: Mapping[int, set[str]], prefix: str
) -> Iterator[tuple[Layer, str]]:
    """Those without tensors are left out of the numbers: a ReLU first, then upsamplings."""
    if not numbered:
        raise _unknown(file, "it has no numbered layers")
    first = min(numbered)
    for number in range(first, max(numbered) + 1):
        path = f"{prefix}{number}"
        rests = numbered.get(number)
        if rests is None:
            yield (Layer.RELU if number == first + 1 else Layer.UPSAMPLING), path
        else:
            yield (Layer.CONVOLUTION if "weight" in rests else Layer.BLOCK), path


def _require_fit(found: DecoderFile, tensors: Mapping[str, Tensor], channels: int) -> None:
    """Whether each layer takes what the one before it gives, down to red, green and blue."""
    unused, width = dict(tensors), channels
    for path in found.convolutions():
        weight, bias = unused.pop(f"{path}.weight", None), unused.pop(f"{path}.bias", None)
        if weight is None or weight.shape[1:] != (width, 3, 3) or weight.dtype not in DTYPES:
            raise _unknown(found.file, f"{path} does not take {width} channels")
        width = weight.shape[0]
        if bias is not None and (bias.shape != (width,) or bias.dtype not in DTYPES):
            raise _unknown(found.file, f"the bias of {path} does not fit it")
    if unused:
        raise _unknown(found.file, f"it has a {min(unused)}")
    upsamplings = sum(layer is Layer.UPSAMPLING for layer, _ in found.layers)
    if width != 3 or upsamplings > MAX_UPSAMPLINGS:
        raise _unknown(found.file, f"it makes {width} channels, {2**upsamplings} times as wide")


def _unknown(file: Path, why: str) -> LoadError:
    return LoadError(f"{file} is no decoder for previews of this model: {why}")
