"""Loading and unloading over and over."""

from __future__ import annotations

import psutil
import pytest

from mlxsrv.backends import checkpoint
from mlxsrv.backends.builtin import builtin_folder
from mlxsrv.backends.load import finished, free, load_rerank
from mlxsrv.backends.select import Backend
from mlxsrv.core.encoding import TokenRow

SETTLED = 6
CYCLES = 30
MOST_GROWTH = 1_500_000
"""Bytes. A leak of 80 kB a load would be 2.4 MB."""


@pytest.mark.slow
@pytest.mark.usefixtures("mlx_thread")
def test_a_model_that_went_leaves_no_memory_behind(backend_name: Backend) -> None:
    folder = builtin_folder("demo-rerank")
    assert folder is not None
    found = checkpoint.read(folder)
    process = psutil.Process()

    def cycle() -> int:
        backend = finished(load_rerank(backend_name, found))
        backend.score([TokenRow((2, 10, 3))])
        backend.close()
        del backend
        free(backend_name)
        return int(process.memory_info().rss)

    settled = [cycle() for _ in range(SETTLED)][-1]
    assert [cycle() for _ in range(CYCLES)][-1] - settled < MOST_GROWTH
