"""What a backend offers to the engines. Every method runs on the device thread."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from collections.abc import Sequence as Rows
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mlxsrv.backends.adapter import Adapter
from mlxsrv.backends.select import Backend
from mlxsrv.core.encoding import TokenRow
from mlxsrv.core.image import Drawing, DrawingStep, ImageFacts
from mlxsrv.core.speech import Utterance, Voice
from mlxsrv.core.text import Kept, Prefix, Sequence, TokenLogprob, TokenOut
from mlxsrv.core.transcription import WhisperShape

Encoded = object
"""A window of sound as the decoder attends to it; only the backend that made it looks inside."""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is known of a model once it is loaded. Sizes in bytes and tokens."""

    backend: Backend
    vocab_size: int
    memory_bytes: int
    dtype: str


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """What a device recommends: bytes, and how many buffers; None: as many as fit."""

    nbytes: int
    buffers: int | None = None


class TextBackend(Protocol):
    """A running batch of sequences over one model.

    A sequence may be inserted or removed between any two steps. `step` decodes one token for
    every sequence whose prompt is done and prefills at most one chunk of those that wait. A
    step that raises leaves the batch undefined: call `reset` and insert again.
    """

    @property
    def facts(self) -> ModelFacts: ...

    def insert(self, sequence: Sequence, prefix: Prefix | None = None) -> None:
        """Adds a sequence; `prefix` holds its first tokens' state, all but the last at most.

        Raises InvalidRequest where its adapter is not known.
        """
        ...

    def step(self) -> list[TokenOut]: ...

    def remove(self, uids: Collection[int]) -> None: ...

    def keep(self, uid: int) -> Kept | None:
        """The state of a running sequence as it is now; None where it can't be had."""
        ...

    def reset(self) -> None: ...

    def add_adapter(self, name: str, adapter: Adapter) -> None:
        """Makes a LoRA adapter known, beside the others; sequences that name it use it.

        Nothing changes where it does not fit the model. Raises InvalidRequest.
        """
        ...

    def remove_adapter(self, name: str) -> None:
        """Forgets an adapter. Raises Conflict while a sequence in the batch uses it."""
        ...

    def score(
        self, ids: tuple[int, ...], top: int, adapter: str | None = None
    ) -> Iterator[list[TokenLogprob]]:
        """Log probabilities of `ids[1:]`, each given what stands before it, in chunks.

        Every chunk is one slice. `top` asks for so many likeliest alternatives each.
        """
        ...

    def close(self) -> None:
        """Frees the model's memory."""
        ...


class EmbeddingBackend(Protocol):
    """An encoder with its pooling. One call is one slice, so the caller bounds the rows."""

    @property
    def facts(self) -> ModelFacts: ...

    @property
    def dimensions(self) -> int: ...

    @property
    def packs(self) -> bool:
        """Whether rows of any lengths share a batch without padding."""
        ...

    def embed(self, rows: Rows[TokenRow]) -> NDArray[np.float32]:
        """Vectors [rows, dimensions], pooled as the checkpoint says, not normalised."""
        ...

    def close(self) -> None:
        """Frees the model's memory."""
        ...


class RerankBackend(Protocol):
    """A model that judges a query and a document together. One call is one slice."""

    @property
    def facts(self) -> ModelFacts: ...

    def score(self, rows: Rows[TokenRow]) -> NDArray[np.float32]:
        """How relevant each row's document is to its query [rows], in 0..1."""
        ...

    def close(self) -> None:
        """Frees the model's memory."""
        ...


class TranscriptionBackend(Protocol):
    """Whisper: windows of sound are encoded, then any number of rows decode text from them.

    A row may join or leave between any two steps, and several may share a window. Tokens must
    lie in `0..vocab_size - 1`. A step that raises leaves the rows undefined: call `reset`.
    """

    @property
    def facts(self) -> ModelFacts: ...

    @property
    def shape(self) -> WhisperShape: ...

    def encode_steps(self, mels: Rows[NDArray[np.float32]]) -> Iterator[list[Encoded] | None]:
        """Encodes log-mel windows [2 * audio_context, mels] together.

        One `next` is one slice: None until the last one, which gives a window for each. A
        window frees its memory when nobody refers to it any more.
        """
        ...

    def insert(self, uid: int, window: Encoded, tokens: Rows[int]) -> None:
        """Adds a row that begins with `tokens`, at least one and at most `text_context`."""
        ...

    def step(self) -> dict[int, NDArray[np.float32]]:
        """Feeds rows what they have not been fed yet; one slice.

        Gives logits [vocab_size] after the last token of each row that was fed. Every row that
        was extended is fed, but of those just inserted only some that have prompts of the same
        length: the others take their turn in the next steps. A row without a new token is left
        out.
        """
        ...

    def extend(self, uid: int, token: int) -> None:
        """Appends a token, which the next step feeds; `text_context` bounds the row."""
        ...

    def remove(self, uids: Collection[int]) -> None:
        """Takes rows out; those that are not there are passed over."""
        ...

    def align(self, window: Encoded, tokens: Rows[int]) -> NDArray[np.float32]:
        """How much each token looks at each moment [alignment heads, tokens, audio_context].

        These are the scores before the softmax, with the scale of attention applied (`QKs` in
        OpenAI's timing.py). One slice.
        """
        ...

    def reset(self) -> None:
        """Takes every row out."""
        ...

    def close(self) -> None:
        """Frees the model's memory."""
        ...


class SpeechBackend(Protocol):
    """A model that speaks."""

    @property
    def facts(self) -> ModelFacts: ...

    @property
    def sample_rate(self) -> int: ...

    @property
    def voices(self) -> tuple[Voice, ...]: ...

    @property
    def default_voice(self) -> str:
        """The id of one of `voices`."""
        ...

    @property
    def clones(self) -> bool:
        """Whether it speaks with the voice of a recording, and heeds what goes with that."""
        ...

    def synthesize(self, utterance: Utterance) -> Iterator[NDArray[np.float32]]:
        """Mono samples in -1..1, as they are made.

        One `next` is one slice, whose array is empty where no sound is ready yet. The same
        utterance gives the same sound. Closing the iterator half way frees what it holds.
        Raises InvalidRequest where the text can't be spoken.
        """
        ...

    def close(self) -> None:
        """Frees the model's memory."""
        ...


class ImageBackend(Protocol):
    """A model that makes pictures."""

    @property
    def facts(self) -> ModelFacts: ...

    @property
    def image(self) -> ImageFacts: ...

    def working_bytes(self, drawing: Drawing) -> int:
        """About what a picture takes at most while it is made, beside the model."""
        ...

    def draw(self, drawing: Drawing) -> Iterator[DrawingStep | None]:
        """Makes a picture.

        One `next` is one slice: None where it only did a part of what a step takes, the prompt's
        encoding and the picture's decoding among them. Several drawings may be under way in
        turns. The same drawing gives the same pixels, whatever else runs. Closing the iterator
        half way frees what it holds. Raises InvalidRequest where the model can't do what is
        asked.
        """
        ...

    def add_adapter(self, name: str, adapter: Adapter) -> None:
        """Makes a LoRA adapter known, beside the others; drawings that name it use it.

        Nothing changes where it does not fit the model. Raises InvalidRequest.
        """
        ...

    def remove_adapter(self, name: str) -> None:
        """Forgets an adapter, which no drawing uses."""
        ...

    def close(self) -> None:
        """Frees the model's memory."""
        ...
