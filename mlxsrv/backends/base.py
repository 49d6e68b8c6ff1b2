"""What a backend offers to the engines. Every method runs on the device thread."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Protocol

from mlxsrv.core.text import Kept, Prefix, Sequence, TokenLogprob, TokenOut


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is known of a model once it is loaded. Sizes in bytes and tokens."""

    backend: str
    vocab_size: int
    memory_bytes: int
    dtype: str


class TextBackend(Protocol):
    """A running batch of sequences over one model.

    A sequence may be inserted or removed between any two steps. `step` decodes one token for
    every sequence whose prompt is done and prefills at most one chunk of those that wait. A
    step that raises leaves the batch undefined: call `reset` and insert again.
    """

    @property
    def facts(self) -> ModelFacts: ...

    def insert(self, sequence: Sequence, prefix: Prefix | None = None) -> None:
        """Adds a sequence; `prefix` holds its first tokens' state, all but the last at most."""
        ...

    def step(self) -> list[TokenOut]: ...

    def remove(self, uids: Collection[int]) -> None: ...

    def keep(self, uid: int) -> Kept | None:
        """The state of a running sequence as it is now; None where it can't be had."""
        ...

    def reset(self) -> None: ...

    def score(self, ids: tuple[int, ...], top: int) -> Iterator[list[TokenLogprob]]:
        """Log probabilities of `ids[1:]`, each given what stands before it, in chunks.

        Every chunk is one slice. `top` asks for so many likeliest alternatives each.
        """
        ...

    def close(self) -> None:
        """Frees the model's memory."""
        ...
