"""What is asked of a model that speaks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FRAMES_PER_SECOND = 7.5
"""Frames of 133 ms are what lengths of speech are counted in (VibeVoice, arXiv:2508.19205)."""

LONGEST_VOICE_SECONDS = 60.0
"""Of a recording whose voice is to be cloned; some ten are enough."""


@dataclass(frozen=True, slots=True)
class Voice:
    """A voice that a model has; `language` is an ISO 639-1 code, or more exactly a BCP 47 tag."""

    id: str
    language: str


@dataclass(frozen=True, slots=True)
class SpeechFacts:
    """What callers are told of a model that speaks, once it has been loaded."""

    sample_rate: int
    clones: bool
    voices: tuple[Voice, ...]
    default_voice: str


@dataclass(frozen=True, slots=True)
class SpeechRequest:
    """A text to be spoken, of any length; the fields are those of `Utterance`.

    Here `max_frames` bounds the whole of it; None: there is no end but the text's.
    """

    text: str
    voice: str
    speed: float = 1.0
    seed: int | None = None
    max_frames: int | None = None
    cfg_scale: float = 1.5
    diffusion_steps: int = 10
    reference: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class Utterance:
    """A piece of text to be spoken in one go, about a sentence.

    `max_frames` of 133 ms bound what is made of it; None: as much as the model allows.
    `cfg_scale`, `diffusion_steps` and `reference` (a voice to clone: mono samples in -1..1 at
    the model's rate) are for models that clone voices.
    """

    text: str
    voice: str
    speed: float = 1.0
    seed: int = 0
    max_frames: int | None = None
    cfg_scale: float = 1.5
    diffusion_steps: int = 10
    reference: NDArray[np.float32] | None = None
