"""A loaded model, as handlers use it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mlxsrv.backends.base import ModelFacts
from mlxsrv.backends.generation import GenerationDefaults
from mlxsrv.core.errors import MlxsrvError
from mlxsrv.core.speech import SpeechFacts
from mlxsrv.engines.encoder import EncoderEngine
from mlxsrv.engines.encoder_tokenizer import EncoderTokenizer
from mlxsrv.engines.pairs import PairReader
from mlxsrv.engines.speech import SpeechEngine
from mlxsrv.engines.text import TextEngine
from mlxsrv.engines.tokenizer import TextTokenizer
from mlxsrv.engines.transcription import TranscriptionEngine
from mlxsrv.engines.whisper.transcript import Whisper


class Model(Protocol):
    """What all loaded models have in common."""

    @property
    def name(self) -> str: ...

    @property
    def facts(self) -> ModelFacts: ...

    def cancel_all(self, error: MlxsrvError) -> None:
        """Ends every request with `error`."""
        ...

    async def close(self) -> None:
        """Frees the model, which no request uses any more."""
        ...


@dataclass(frozen=True, slots=True)
class TextModel:
    """A text model under its served name. `context_length` bounds prompt plus answer.

    `defaults` is what holds for sampling where a request is silent: the configuration's
    temperature, else the checkpoint's recommendation. `adapter` names the LoRA adapter that it
    answers with, if any.
    """

    name: str
    engine: TextEngine
    tokenizer: TextTokenizer
    context_length: int
    facts: ModelFacts
    defaults: GenerationDefaults
    adapter: str | None = None

    def cancel_all(self, error: MlxsrvError) -> None:
        self.engine.cancel_all(error)

    async def close(self) -> None:
        await self.engine.close()

    @property
    def vocab_size(self) -> int:
        return self.facts.vocab_size


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """An embedding model under its served name. `context_length` bounds one input.

    Its vectors have `dimensions` numbers; an answer has `default_dimensions` unless the request
    says otherwise. `prompts` are the model's own texts to put before an input, by name; without
    `pool_prompt` their tokens do not count in the vector.
    """

    name: str
    engine: EncoderEngine
    tokenizer: EncoderTokenizer
    context_length: int
    facts: ModelFacts
    dimensions: int
    default_dimensions: int
    prompts: Mapping[str, str]
    default_prompt: str | None
    pool_prompt: bool

    def cancel_all(self, error: MlxsrvError) -> None:
        self.engine.cancel_all(error)

    async def close(self) -> None:
        await self.engine.close()

    @property
    def vocab_size(self) -> int:
        return self.facts.vocab_size


@dataclass(frozen=True, slots=True)
class RerankModel:
    """A reranker under its served name. `context_length` bounds query and document together."""

    name: str
    engine: EncoderEngine
    reader: PairReader
    context_length: int
    facts: ModelFacts

    def cancel_all(self, error: MlxsrvError) -> None:
        self.engine.cancel_all(error)

    async def close(self) -> None:
        await self.engine.close()

    @property
    def vocab_size(self) -> int:
        return self.facts.vocab_size


@dataclass(frozen=True, slots=True)
class TranscriptionModel:
    """A Whisper model under its served name."""

    name: str
    engine: TranscriptionEngine
    whisper: Whisper
    facts: ModelFacts

    def cancel_all(self, error: MlxsrvError) -> None:
        self.engine.cancel_all(error)

    async def close(self) -> None:
        await self.engine.close()

    @property
    def vocab_size(self) -> int:
        return self.facts.vocab_size


@dataclass(frozen=True, slots=True)
class SpeechModel:
    """A model that speaks under its served name.

    `prompt` is the voice that the configuration gives it: mono samples at its own rate.
    """

    name: str
    engine: SpeechEngine
    facts: ModelFacts
    speech: SpeechFacts
    prompt: NDArray[np.float32] | None = None

    def cancel_all(self, error: MlxsrvError) -> None:
        self.engine.cancel_all(error)

    async def close(self) -> None:
        await self.engine.close()
