"""From the command to the first 200, and the memory after the first chat."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

from mlxsrv.bench import processes, servers
from mlxsrv.bench.metrics import ERRORS, MILLI, Metric, Sample
from mlxsrv.bench.recipes import Recipe
from mlxsrv.bench.scenarios.base import Round, Scenario
from mlxsrv.bench.subjects import Work

CHAT = Work(16)


async def measure(recipe: Recipe, turn: Round) -> Sample:
    """Raises LoadError where the server does not come up."""
    server = await servers.launch(recipe, turn.checkpoint, turn.logs)
    try:
        answer = await server.subject.ask([turn.speaker().user(16)], CHAT)
        memory = processes.memory_mb(server.child.process.pid)
    finally:
        server.child.stop()
    sample = {
        Metric("", "command to ready", "s"): server.start_seconds,
        Metric("first chat", ERRORS): float(answer.error is not None),
        Metric("first chat", "memory after", "MB"): memory,
    }
    if answer.error is None:
        sample[Metric("first chat", "whole answer", "ms")] = MILLI * (answer.ended - answer.sent)
    if recipe.ours:
        sample[Metric("", "--help", "s")] = await asyncio.to_thread(_help_seconds)
    return sample


def _help_seconds() -> float:
    began = time.perf_counter()
    command = [sys.executable, "-m", "mlxsrv", "--help"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


SCENARIO = Scenario(
    "startup",
    "from the command to ready with the demo model, and memory after one chat",
    ("demo",),
    starting=measure,
)
