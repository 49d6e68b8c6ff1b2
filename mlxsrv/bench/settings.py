"""What the user chose to measure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mlxsrv.bench.subjects import Api, Work

ANSWER_TOKENS = {"tiny": 128, "small": 64}
"""Long enough to last, short enough to repeat."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Lengths in tokens. `max_tokens` None takes what suits the checkpoint."""

    cache: Path
    rounds: int = 5
    concurrency: tuple[int, ...] = (1, 4, 16)
    prompt_tokens: int = 32
    max_tokens: int | None = None
    stream: bool = True
    api: Api = "chat"
    requests: int = 5000
    sentences: int = 1000
    cycles: int = 200
    seconds: float = 120.0
    minutes: int = 10

    def work(self, checkpoint: str) -> Work:
        tokens = self.max_tokens or ANSWER_TOKENS.get(checkpoint, 64)
        return Work(tokens, self.stream, self.api)
