"""Memory on torch."""

from __future__ import annotations

import torch

from mlxsrv.backends.base import DeviceMemory
from mlxsrv.backends.checkpoint import Checkpoint
from mlxsrv.backends.footprint import Residence
from mlxsrv.backends.torch.precision import device_name, dtype_for, encoder_dtype
from mlxsrv.core.kinds import Kind

DECODING = 5
"""Arrays of a picture decoder's widest layer there are at once, all but."""
SPARE = 64_000_000
"""Of its weights, which are laid out anew for each convolution."""


def residence(checkpoint: Checkpoint) -> Residence:
    device = device_name()
    encodes = checkpoint.kind in {Kind.EMBEDDING, Kind.RERANK}
    dtype = (
        encoder_dtype(device, checkpoint) if encodes else dtype_for(device, checkpoint.weight_bytes)
    )
    if isinstance(dtype, str):  # as stored
        stored = 4 if checkpoint.dtype == "float32" else 2
        return Residence(checkpoint.weight_bytes, stored, DECODING, SPARE)
    packed = checkpoint.weight_bytes - checkpoint.float_bytes
    weights = packed + checkpoint.float_items * dtype.itemsize
    return Residence(weights, dtype.itemsize, DECODING, SPARE)


def recommended() -> DeviceMemory | None:
    if not torch.cuda.is_available():
        return None
    _, total = torch.cuda.mem_get_info()
    return DeviceMemory(int(total))
