"""Memory on MLX."""

from __future__ import annotations

import mlx.core as mx

from mlxsrv.backends.base import DeviceMemory
from mlxsrv.backends.checkpoint import Checkpoint
from mlxsrv.backends.footprint import Residence

FLOAT32 = 4
SPARE_BYTES = 2_000_000_000
"""Freed buffers that MLX may keep for itself: enough for the steps of any batch."""
DECODING = 10
"""Arrays of a picture decoder's widest layer there are at once."""
SMALL_BYTES = 2_000_000
"""For all that does not grow with a picture."""
PATCHES = 2_000_000
"""Bytes of a picture's 3x3 patches, that the CPU lays out for one matrix product."""


def on_cpu() -> bool:
    return bool(mx.default_device() == mx.Device(mx.cpu))


def residence(checkpoint: Checkpoint) -> Residence:
    """On the CPU floats are widened to float32, and packed weights stay as they are."""
    packed = checkpoint.weight_bytes - checkpoint.float_bytes
    if on_cpu():
        widened = packed + checkpoint.float_items * FLOAT32
        return Residence(widened, FLOAT32, DECODING, SMALL_BYTES + PATCHES)
    stored = 4 if checkpoint.dtype == "float32" else 2
    return Residence(checkpoint.weight_bytes, stored, DECODING, SMALL_BYTES)


def recommended() -> DeviceMemory | None:
    """Metal's own recommendation, and its bound on live buffers."""
    if on_cpu():
        return None
    info = mx.device_info()
    buffers = info.get("resource_limit")
    working_set = info.get("max_recommended_working_set_size") or info["memory_size"]
    return DeviceMemory(int(working_set), int(buffers) if buffers else None)


def bound(nbytes: int) -> None:
    """Beyond the budget MLX then waits for running work to free memory before it allocates."""
    if not on_cpu():
        mx.set_memory_limit(nbytes)
        mx.set_cache_limit(min(SPARE_BYTES, nbytes // 8))


def free() -> None:
    # Layers draw random weights that loading replaces undrawn; the state of the generator keeps
    # the whole chain of what it would have had to compute, 80 kB a model.
    mx.eval(mx.random.state)
    mx.clear_cache()
