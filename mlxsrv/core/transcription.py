"""The nouns of transcription, shared by the engine and both backends."""

from __future__ import annotations

from dataclasses import dataclass

TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Tried in turn until a window's text is plausible, as OpenAI's code does."""

CANDIDATES = 5
"""Texts drawn at a temperature, of which the likeliest is taken."""


@dataclass(frozen=True, slots=True)
class WhisperShape:
    """The sizes of a Whisper model that the engine has to know.

    A window of sound is `2 * audio_context` frames of `mels` bands each; a row of the decoder
    holds at most `text_context` tokens. `layers` and `heads` are the decoder's; `alignment_heads`
    are those pairs (layer, head) whose cross-attention follows the words in time.
    """

    mels: int
    vocab_size: int
    audio_context: int
    text_context: int
    layers: int
    heads: int
    alignment_heads: tuple[tuple[int, int], ...]

    @property
    def frames(self) -> int:
        """Of a window."""
        return 2 * self.audio_context


@dataclass(frozen=True, slots=True)
class TranscriptionRequest:
    """What is wanted of a recording.

    `language` is one of Whisper's codes; None: find out. `translate` asks for English text.
    `prompt` is what stands before the text, such as names that come in it. Each window is decoded
    at the `temperatures` in turn until its text is plausible. `words` asks for the times of words.
    `condition` shows the model what it wrote before. Draws at a temperature depend on `seed`.
    """

    language: str | None = None
    translate: bool = False
    prompt: str = ""
    temperatures: tuple[float, ...] = TEMPERATURES
    words: bool = False
    condition: bool = True
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Word:
    """A word as it is written, with the space before it, and when it is spoken, in seconds."""

    text: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of the text and what is known of it. Times in seconds.

    `seek` is the frame (hundredths of a second) where its window begins. `tokens` include its
    time stamps. The four numbers before `words` are of the whole window: see OpenAI's
    `verbose_json`.
    """

    id: int
    seek: int
    start: float
    end: float
    text: str
    tokens: tuple[int, ...]
    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float
    words: tuple[Word, ...] = ()


@dataclass(frozen=True, slots=True)
class TranscriptionUpdate:
    """What one window added to a transcript.

    `seconds` of the recording's `duration` are done. `language` is None until it is known.
    `generated` counts the tokens decoded so far.
    """

    segments: tuple[Segment, ...]
    seconds: float
    duration: float
    language: str | None
    generated: int
