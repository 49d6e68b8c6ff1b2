"""Runs scenarios: all targets in turn, round by round, so that what disturbs one disturbs all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from mlxsrv.backends.select import Backend
from mlxsrv.bench import checkpoints, encoders, servers, whispers
from mlxsrv.bench.checkpoints import Checkpoint
from mlxsrv.bench.libraries import Library, libraries
from mlxsrv.bench.metrics import Sample
from mlxsrv.bench.recipes import Recipe
from mlxsrv.bench.results import Result, Role, Target
from mlxsrv.bench.scenarios.base import Round, Scenario
from mlxsrv.bench.servers import Child
from mlxsrv.bench.settings import Settings
from mlxsrv.bench.subjects import Subject
from mlxsrv.core.errors import MlxsrvError

Say = Callable[[str], None]
SETTLE_SECONDS = 0.1
"""After a process goes on: sockets and timers that fell due meanwhile are dealt with."""


@dataclass(frozen=True, slots=True)
class Field:
    """Who takes part: servers to start, libraries alone, and servers that run already."""

    recipes: Sequence[Recipe] = ()
    limits: Sequence[Backend] = ()
    running: Sequence[Subject] = ()


@dataclass(frozen=True, slots=True)
class Contender:
    """A target and how to measure one round of it. `child` is held still between its turns."""

    target: Target
    measure: Callable[[Round], Awaitable[Sample]]
    child: Child | None = None


async def run(
    scenario: Scenario, name: str, field: Field, settings: Settings, logs: Path, say: Say
) -> Result:
    """One scenario on the checkpoint called `name`.

    A target that fails is left out from there on, and a note says why.
    """
    checkpoint = _checkpoint(name, settings.cache)
    result = Result(scenario.name, scenario.summary, checkpoint.name)
    flags = scenario.flags(checkpoint, settings) if scenario.flags else ()
    cache = settings.cache
    async with _contenders(scenario, checkpoint, field, cache, logs, result, flags) as contenders:
        result.targets = [contender.target for contender in contenders]
        rounds = 1 if scenario.once else settings.rounds
        warm_up = 0 if scenario.once or scenario.starting else 1
        alive = list(contenders)
        for number in range(-warm_up, rounds):
            turn = Round(settings, checkpoint, number + 1, logs)
            for contender in list(alive):
                say(f"{_title(scenario, checkpoint, number, rounds)}: {contender.target.name}")
                try:
                    sample = await _turn(contender, turn)
                except (MlxsrvError, OSError, ValueError) as error:
                    result.notes.append(f"{contender.target.name}: {error}")
                    alive.remove(contender)
                    continue
                if number >= 0:
                    contender.target.samples.append(sample)
    return result


def _title(scenario: Scenario, checkpoint: Checkpoint, number: int, rounds: int) -> str:
    which = "warm-up" if number < 0 else f"round {number + 1} of {rounds}"
    return f"{scenario.name} on {checkpoint.name}, {which}"


async def _turn(contender: Contender, turn: Round) -> Sample:
    if contender.child is None:
        return await contender.measure(turn)
    contender.child.resume()
    await asyncio.sleep(SETTLE_SECONDS)
    try:
        return await contender.measure(turn)
    finally:
        if contender.child.process.poll() is None:
            contender.child.pause()


def _checkpoint(name: str, cache: Path) -> Checkpoint:
    if name in checkpoints.BUILT_IN:
        return checkpoints.built_in(name)
    if name in checkpoints.SHAPES:
        return checkpoints.ensure(name, cache)
    if name in encoders.SHAPES:
        return encoders.ensure(name, cache)
    if name in whispers.SHAPES:
        return whispers.ensure(name, cache)
    return checkpoints.given(Path(name))


@asynccontextmanager
async def _contenders(
    scenario: Scenario,
    checkpoint: Checkpoint,
    field: Field,
    cache: Path,
    logs: Path,
    result: Result,
    flags: Sequence[str],
) -> AsyncIterator[list[Contender]]:
    """Starts everybody, held still until their turn, and ends them afterwards."""
    contenders: list[Contender] = []
    try:
        found = libraries(scenario, checkpoint, field.limits, cache, logs)
        _add_libraries(contenders, found, result)
        for recipe in field.recipes:
            if recipe.ours or (recipe.serves == scenario.purpose and not scenario.ours_only):
                given = flags if recipe.ours else ()
                await _add_server(contenders, scenario, checkpoint, recipe, logs, result, given)
        for subject in field.running:
            if scenario.running is not None:
                target = Target(subject.name, subject.family, "peer")
                contenders.append(Contender(target, _bound(scenario, subject)))
        yield contenders
    finally:
        for contender in contenders:
            if contender.child is not None:
                contender.child.stop()


def _add_libraries(contenders: list[Contender], found: Iterable[Library], result: Result) -> None:
    for library in found:
        if not library.installed:
            result.notes.append(f"{library.name}: not installed; pip install 'mlxsrv[bench]'")
            continue
        started = library.start()
        target = Target(library.name, library.family, "limit")
        contenders.append(Contender(target, started.measure, started.worker.child))


async def _add_server(
    contenders: list[Contender],
    scenario: Scenario,
    checkpoint: Checkpoint,
    recipe: Recipe,
    logs: Path,
    result: Result,
    flags: Sequence[str],
) -> None:
    role: Role = "ours" if recipe.ours else "peer"
    target = Target(recipe.name, recipe.family, role)
    starting = scenario.starting
    if starting is not None:

        async def start(turn: Round) -> Sample:
            return await starting(recipe, turn)

        contenders.append(Contender(target, start))
        return
    try:
        server = await servers.launch(recipe, checkpoint, logs, flags)
    except MlxsrvError as error:
        result.notes.append(error.message)
        return
    server.child.pause()
    contenders.append(Contender(target, _bound(scenario, server.subject), server.child))


def _bound(scenario: Scenario, subject: Subject) -> Callable[[Round], Awaitable[Sample]]:
    measure = scenario.running
    assert measure is not None, f"{scenario.name} measures nothing that runs"

    async def running(turn: Round) -> Sample:
        return await measure(subject, turn)

    return running
