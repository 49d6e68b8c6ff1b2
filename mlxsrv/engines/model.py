"""A loaded model, as handlers use it."""

from __future__ import annotations

from dataclasses import dataclass

from mlxsrv.backends.base import ModelFacts
from mlxsrv.backends.generation import GenerationDefaults
from mlxsrv.engines.text import TextEngine
from mlxsrv.engines.tokenizer import TextTokenizer


@dataclass(frozen=True, slots=True)
class TextModel:
    """A text model under its served name. `context_length` bounds prompt plus answer.

    `defaults` is what holds for sampling where a request is silent: the configuration's
    temperature, else the checkpoint's recommendation.
    """

    name: str
    engine: TextEngine
    tokenizer: TextTokenizer
    context_length: int
    facts: ModelFacts
    defaults: GenerationDefaults

    @property
    def vocab_size(self) -> int:
        return self.facts.vocab_size
