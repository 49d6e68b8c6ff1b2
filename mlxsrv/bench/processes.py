"""Processor time and memory of a server and all that it has started."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

MEGA = 1e6
IDLE_SHARE = 0.15
"""A process is idle when it uses less than this share of one core…"""
IDLE_WINDOW = 0.2
"""…over so many seconds."""
SAMPLE_SECONDS = 0.02


def _tree(pid: int) -> list[psutil.Process]:
    import psutil

    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def signal_tree(pid: int, sign: int) -> None:
    """Sends a signal to a process and all that it has started, parents first."""
    for process in _tree(pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, sign)


def memory_mb(pid: int) -> float:
    """Resident memory in megabytes (decimal)."""
    import psutil

    total = 0
    for process in _tree(pid):
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total / MEGA


def _cpu_seconds(processes: list[psutil.Process]) -> float:
    """Processor time used so far by those that still run."""
    import psutil

    total = 0.0
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


async def seconds_until_idle(pid: int, patience: float) -> float:
    """How long from now the processes go on computing; at most `patience`."""
    processes = _tree(pid)
    began = time.perf_counter()
    used: deque[tuple[float, float]] = deque()
    while (now := time.perf_counter() - began) < patience + IDLE_WINDOW:
        used.append((now, _cpu_seconds(processes)))
        while len(used) > 1 and used[1][0] <= now - IDLE_WINDOW:
            used.popleft()
        since, before = used[0]
        if now - since >= IDLE_WINDOW and used[-1][1] - before <= IDLE_SHARE * IDLE_WINDOW:
            return since
        await asyncio.sleep(SAMPLE_SECONDS)
    return patience
