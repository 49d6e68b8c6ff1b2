"""Whether a backend works here, tried for real: `python -m mlxsrv.backends.probe mlx`.

Runs as a process of its own, because a broken GPU library may kill the process that imports
it, and because loading both backends in one takes memory that is not given back.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from mlxsrv.backends import blas

SIDE = 512
REPEATS = 4


def probe_mlx() -> dict[str, Any]:
    """Multiplies on MLX's default device; memory in bytes, speed in GFLOP/s."""
    import mlx.core as mx

    device = mx.default_device()
    info = dict(mx.device_info(device))
    return {
        "device": str(device.type).rpartition(".")[2],
        "name": info.get("device_name"),
        "memory_bytes": info.get("max_recommended_working_set_size"),
        "gflops": _gflops(lambda: mx.eval(_square(mx))),
    }


def _square(mx: Any) -> Any:
    ones = mx.ones((SIDE, SIDE))
    return ones @ ones


def probe_torch() -> dict[str, Any]:
    """The same on torch's CUDA device, or on the CPU."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    ones = torch.ones(SIDE, SIDE, device=device)
    memory = torch.cuda.get_device_properties(0).total_memory if device == "cuda" else None
    return {
        "device": device,
        "name": torch.cuda.get_device_name(0) if device == "cuda" else None,
        "memory_bytes": memory,
        "gflops": _gflops(lambda: float((ones @ ones)[0, 0])),
    }


def _gflops(multiply: Any) -> float:
    multiply()
    start = time.perf_counter()
    for _ in range(REPEATS):
        multiply()
    return round(2 * SIDE**3 * REPEATS / (time.perf_counter() - start) / 1e9, 1)


def main() -> int:
    found = probe_mlx() if sys.argv[1] == "mlx" else probe_torch()
    print(json.dumps({**found, "openblas": blas.loaded(blas.library())}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
