"""What a scenario is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mlxsrv.bench.answer import Answer
from mlxsrv.bench.checkpoints import Checkpoint
from mlxsrv.bench.metrics import Sample
from mlxsrv.bench.pictures import Pictures
from mlxsrv.bench.recipes import Purpose, Recipe
from mlxsrv.bench.recordings import Recordings
from mlxsrv.bench.sentences import Sentences
from mlxsrv.bench.settings import Settings
from mlxsrv.bench.subjects import Chat, Subject, Work
from mlxsrv.bench.words import Speaker


class Generates(Protocol):
    """A server, or the library alone."""

    async def generate(self, chats: Sequence[Chat], work: Work) -> list[Answer]: ...


@dataclass(frozen=True, slots=True)
class Round:
    """One round of one checkpoint; the speaker says the same to every subject of a round."""

    settings: Settings
    checkpoint: Checkpoint
    seed: int
    logs: Path

    def speaker(self) -> Speaker:
        return Speaker(self.checkpoint.vocabulary, self.seed)


@dataclass(frozen=True, slots=True)
class Scenario:
    """`running` or `starting` is given.

    `running` measures a server that runs, beside it `library` what generates in process,
    `sentences` what embeds, `recordings` what transcribes or `pictures` what draws there, and
    `starting` a server that it starts itself. `flags` makes what the scenario needs besides its
    checkpoint, and gives the flags for our servers. `once` runs a single round, without a warm-up.
    """

    name: str
    summary: str
    checkpoints: tuple[str, ...]
    running: Callable[[Subject, Round], Awaitable[Sample]] | None = None
    library: Callable[[Generates, Round], Awaitable[Sample]] | None = None
    starting: Callable[[Recipe, Round], Awaitable[Sample]] | None = None
    sentences: Callable[[Sentences, Round], Awaitable[Sample]] | None = None
    recordings: Callable[[Recordings, Round], Awaitable[Sample]] | None = None
    pictures: Callable[[Pictures, Round], Awaitable[Sample]] | None = None
    flags: Callable[[Checkpoint, Settings], Sequence[str]] | None = None
    purpose: Purpose = "chat"
    once: bool = False
    ours_only: bool = False
