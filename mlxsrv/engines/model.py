"""A loaded model, as handlers use it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from mlxsrv.backends.base import ModelFacts
from mlxsrv.backends.generation import GenerationDefaults
from mlxsrv.core.errors import MlxsrvError
from mlxsrv.core.image import ImageFacts
from mlxsrv.core.speech import SpeechFacts
from mlxsrv.engines.encoder import EncoderEngine
from mlxsrv.engines.encoder_tokenizer import EncoderTokenizer
from mlxsrv.engines.image import ImageEngine
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


class Engine(Protocol):
    """What all engines have in common."""

    def cancel_all(self, error: MlxsrvError) -> None: ...

    async def close(self) -> None: ...


E = TypeVar("E", bound=Engine)


@dataclass(frozen=True, slots=True)
class _Served(Generic[E]):
    """Implements `Model`; see there."""

    name: str
    engine: E
    facts: ModelFacts

    def cancel_all(self, error: MlxsrvError) -> None:
        self.engine.cancel_all(error)

    async def close(self) -> None:
        await self.engine.close()

    @property
    def vocab_size(self) -> int:
        return self.facts.vocab_size


@dataclass(frozen=True, slots=True)
class TextModel(_Served[TextEngine]):
    """A text model under its served name. `context_length` bounds prompt plus answer.

    `defaults` is what holds for sampling where a request is silent: the configuration's
    temperature, else the checkpoint's recommendation. `adapter` names the LoRA adapter that it
    answers with, if any.
    """

    tokenizer: TextTokenizer
    context_length: int
    defaults: GenerationDefaults
    adapter: str | None = None


@dataclass(frozen=True, slots=True)
class EmbeddingModel(_Served[EncoderEngine]):
    """An embedding model under its served name. `context_length` bounds one input.

    Its vectors have `dimensions` numbers; an answer has `default_dimensions` unless the request
    says otherwise. `prompts` are the model's own texts to put before an input, by name; without
    `pool_prompt` their tokens do not count in the vector.
    """

    tokenizer: EncoderTokenizer
    context_length: int
    dimensions: int
    default_dimensions: int
    prompts: Mapping[str, str]
    default_prompt: str | None
    pool_prompt: bool


@dataclass(frozen=True, slots=True)
class RerankModel(_Served[EncoderEngine]):
    """A reranker under its served name. `context_length` bounds query and document together."""

    reader: PairReader
    context_length: int


@dataclass(frozen=True, slots=True)
class TranscriptionModel(_Served[TranscriptionEngine]):
    """A Whisper model under its served name."""

    whisper: Whisper


@dataclass(frozen=True, slots=True)
class SpeechModel(_Served[SpeechEngine]):
    """A model that speaks under its served name.

    `prompt` is the voice that the configuration gives it: mono samples at its own rate.
    """

    speech: SpeechFacts
    prompt: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class ImageModel(_Served[ImageEngine]):
    """An image model under its served name.

    `image` holds what is true where a request is silent: the configuration's size, steps and
    guidance, else the model's own, inside the server's bounds. `adapter` names the LoRA adapter
    that it draws with, if any.
    """

    image: ImageFacts
    adapter: str | None = None
