"""The scenarios by name: one file each, or one for two that are alike."""

from __future__ import annotations

from mlxsrv.bench.scenarios import (
    abort,
    adapters,
    connections,
    cycles,
    drawing,
    embeddings,
    interference,
    listening,
    prefix,
    soak,
    speaking,
    startup,
    transcription,
    turns,
)
from mlxsrv.bench.scenarios import throughput as throughput_
from mlxsrv.bench.scenarios.base import Scenario

SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        throughput_.SCENARIO,
        interference.SCENARIO,
        prefix.MULTI_TURN,
        prefix.SHARED_PREFIX,
        abort.SCENARIO,
        connections.SCENARIO,
        startup.SCENARIO,
        soak.SCENARIO,
        embeddings.SCENARIO,
        adapters.SCENARIO,
        cycles.SCENARIO,
        turns.SCENARIO,
        transcription.SPEED,
        transcription.MEMORY,
        listening.SCENARIO,
        speaking.SCENARIO,
        drawing.SPEED,
        drawing.BESIDE,
    )
}
