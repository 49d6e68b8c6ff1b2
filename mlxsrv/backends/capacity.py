"""How much memory models may use on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil

from mlxsrv.backends.select import Backend

SHARE = 0.75
"""Of a machine's memory, where nothing recommends how much a device may use."""

MARGIN = 0.9
"""Of what Metal or CUDA says may be used: other programs draw windows too."""

_CGROUP_FILES = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


@dataclass(frozen=True, slots=True)
class Capacity:
    """Bytes that models may hold, and how many buffers; None: as many as they like.

    `own_memory`: the device has memory of its own, or an allocator that watches it.
    """

    nbytes: int
    buffers: int | None = None
    own_memory: bool = False


def capacity(backend: Backend) -> Capacity:
    """What the device recommends, else a share of the machine's memory. On the device thread."""
    if backend == "mlx":
        from mlxsrv.backends.mlx import memory as mlx

        device = mlx.recommended()
    else:
        from mlxsrv.backends.torch import memory as torch

        device = torch.recommended()
    if device is not None:
        return Capacity(int(device.nbytes * MARGIN), device.buffers, own_memory=True)
    return Capacity(int(machine_bytes() * SHARE))


def apply(backend: Backend, nbytes: int) -> None:
    """Tells the device's own allocator of the budget. On the device thread."""
    if backend == "mlx":
        from mlxsrv.backends.mlx import memory as mlx

        mlx.bound(nbytes)


def machine_bytes() -> int:
    """The memory of this machine, or of the container around this process."""
    total: int = psutil.virtual_memory().total
    for file in _CGROUP_FILES:
        try:
            limit = file.read_text().strip()
        except OSError:
            continue
        if limit.isdecimal():
            total = min(total, int(limit))
    return total


def free_bytes() -> int:
    """What could be allocated now without swapping."""
    available: int = psutil.virtual_memory().available
    return available
