"""Models of all kinds that come and go: does any memory stay behind?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from mlxsrv.bench import checkpoints, encoders
from mlxsrv.bench.checkpoints import Checkpoint
from mlxsrv.bench.client import Endpoint
from mlxsrv.bench.keepalive import Refused, post
from mlxsrv.bench.metrics import ERRORS, Metric, Sample
from mlxsrv.bench.processes import memory_mb, seconds_until_idle
from mlxsrv.bench.scenarios.base import Round, Scenario
from mlxsrv.bench.scrape import scrape
from mlxsrv.bench.settings import Settings
from mlxsrv.bench.subjects import PATHS, Subject, Work
from mlxsrv.bench.words import Speaker

ROUNDS_BEFORE = 2
"""Times that each kind has come and gone before memory is taken as settled."""
PATIENCE = 30.0
WORDS = 40


@dataclass(frozen=True, slots=True)
class Visitor:
    """A model that comes and goes, and how it is used while it is there."""

    name: str
    folder: Path
    path: str
    body: dict[str, Any]

    async def visit(self, endpoint: Endpoint) -> None:
        """Raises Refused, OSError."""
        await post(endpoint, "/v1/models/load", {"model": str(self.folder), "name": self.name})
        await post(endpoint, self.path, {"model": self.name, **self.body})
        await post(endpoint, "/v1/models/unload", {"model": self.name})


def flags(_: Checkpoint, settings: Settings) -> list[str]:
    """One process, so that its memory is not watered down by the supervisor's."""
    return ["--allowed-folders", str(_folders(settings)[0].parent), "--no-supervise"]


def _folders(settings: Settings) -> list[Path]:
    made = (
        checkpoints.sibling("tiny", settings.cache),
        encoders.ensure("minilm", settings.cache),
        encoders.ensure("minilm-rerank", settings.cache),
    )
    return [checkpoint.folder for checkpoint in made]


def visitors(folders: Sequence[Path], speaker: Speaker) -> list[Visitor]:
    """One of each kind."""
    texts = [speaker.text(WORDS) for _ in range(4)]
    bodies: tuple[tuple[str, dict[str, Any]], ...] = (
        (PATHS["chat"], Work(16, stream=False).body([speaker.user(WORDS)])),
        ("/v1/embeddings", {"input": texts}),
        ("/v1/rerank", {"query": texts[0], "documents": texts[1:]}),
    )
    return [
        Visitor(f"visiting-{folder.name}", folder, path, body)
        for folder, (path, body) in zip(folders, bodies, strict=True)
    ]


async def measure(subject: Subject, turn: Round) -> Sample:
    guests = visitors(_folders(turn.settings), turn.speaker())
    coming = islice(cycle(guests), turn.settings.cycles)
    first = min(ROUNDS_BEFORE * len(guests), turn.settings.cycles // 2)
    start = await _memory(subject)
    errors = await _visits(subject.endpoint, islice(coming, first))
    before = await _memory(subject)
    errors += await _visits(subject.endpoint, coming)
    after = await _memory(subject)
    sample = {
        Metric("", "cycles", better="neither"): float(turn.settings.cycles),
        Metric("", ERRORS): float(errors),
    }
    for name in (name for name in start if name in before and name in after):
        sample |= {
            Metric("at the start", name, "MB"): start[name],
            Metric(f"after {first}", name, "MB"): before[name],
            Metric("at the end", name, "MB"): after[name],
            Metric(name, f"at the end / after {first}"): after[name] / before[name],
        }
    return sample


async def _visits(endpoint: Endpoint, guests: Iterator[Visitor]) -> int:
    """How many went wrong."""
    errors = 0
    for guest in guests:
        try:
            await guest.visit(endpoint)
        except (OSError, Refused):
            errors += 1
    return errors


async def _memory(subject: Subject) -> dict[str, float]:
    """Megabytes, once the process is idle: what it takes and what it says that models hold."""
    found = {}
    if subject.pid is not None:
        await seconds_until_idle(subject.pid, PATIENCE)
        found["memory"] = memory_mb(subject.pid)
    said = await scrape(subject.endpoint)
    if said is not None and said["mlxsrv_memory_bytes"]:
        found["held by models"] = said["mlxsrv_memory_bytes"] / 1e6
    return found


SCENARIO = Scenario(
    "load-cycles",
    "chat, embedding and rerank models are loaded, used and unloaded by API: what stays behind",
    ("tiny",),
    running=measure,
    flags=flags,
    once=True,
    ours_only=True,
)
