"""The libraries that a scenario can measure alone, each in a child process of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mlxsrv.backends.select import Backend
from mlxsrv.bench import inprocess, pictures, recordings, sentences
from mlxsrv.bench.checkpoints import Checkpoint
from mlxsrv.bench.metrics import Sample
from mlxsrv.bench.scenarios.base import Round, Scenario
from mlxsrv.bench.worker import Worker


@dataclass(frozen=True, slots=True)
class Started:
    """A library whose child is about to run."""

    worker: Worker
    measure: Callable[[Round], Awaitable[Sample]]


@dataclass(frozen=True, slots=True)
class Library:
    """One that may take part: `family` is the backend whose figures it is compared with."""

    name: str
    family: Backend | None
    installed: bool
    start: Callable[[], Started]


def libraries(
    scenario: Scenario,
    checkpoint: Checkpoint,
    backends: Sequence[Backend],
    cache: Path,
    logs: Path,
) -> Iterator[Library]:
    """Those that the scenario names, for each of the backends."""
    if scenario.sentences is not None and backends:
        yield Library(
            sentences.NAME,
            None,
            sentences.installed(),
            _starter(scenario.sentences, lambda: sentences.launch(checkpoint, logs)),
        )
    for backend in backends:
        yield from _of(backend, scenario, checkpoint, cache, logs)


def _of(
    backend: Backend, scenario: Scenario, checkpoint: Checkpoint, cache: Path, logs: Path
) -> Iterator[Library]:
    if scenario.library is not None:
        start = _starter(scenario.library, lambda: inprocess.launch(backend, checkpoint, logs))
        yield Library(inprocess.LIBRARIES[backend], backend, True, start)
    if scenario.recordings is not None:
        start = _starter(
            scenario.recordings, lambda: recordings.launch(backend, checkpoint, cache, logs)
        )
        installed = recordings.installed(backend)
        yield Library(recordings.LIBRARIES[backend], backend, installed, start)
    if scenario.pictures is not None:
        for name in pictures.LIBRARIES[backend]:
            launch = partial(pictures.launch, name, backend, checkpoint, logs)
            start = _starter(scenario.pictures, launch)
            yield Library(name, backend, pictures.installed(name), start)


def _starter(
    measure: Callable[[Any, Round], Awaitable[Sample]], launch: Callable[[], Any]
) -> Callable[[], Started]:
    def start() -> Started:
        library = launch()

        async def alone(turn: Round) -> Sample:
            return await measure(library, turn)

        return Started(library.worker, alone)

    return start
