"""The voices of espeak-ng, which need neither weights nor a device."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlxsrv.backends import espeak_library as library
from mlxsrv.backends.base import ModelFacts
from mlxsrv.backends.checkpoint import Checkpoint
from mlxsrv.backends.clauses import pieces, without_controls
from mlxsrv.backends.select import Backend
from mlxsrv.backends.spoken import bounded
from mlxsrv.core.errors import InvalidRequest
from mlxsrv.core.speech import Utterance, Voice
from mlxsrv.media.tempo import paced

WORDS_PER_MINUTE = 175
PIECE_LETTERS = 400
"""Spoken in one slice: some 20 ms of work for half a minute of sound."""

_VARIANTS = ("f1", "f2", "f3", "f4", "f5", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8")
_WITHOUT_DICTIONARY = frozenset({"fo", "kaa", "xex"})
"""Languages that the package lists, but brings no pronunciation for."""


class EspeakBackend:
    """Implements `SpeechBackend`; see there for the contract.

    Each voice is a language. The default one also comes in variants, and any voice's id may
    have another variant of espeak-ng's after a `+`.
    """

    sample_rate = library.SAMPLE_RATE
    default_voice = "en-us"
    clones = False

    def __init__(self, facts: ModelFacts, data: Path) -> None:
        self.facts = facts
        self._files = library.voice_files()
        self._variants = frozenset(file.name for file in (data / "voices/!v").iterdir())
        others = sorted(self._files.keys() - {self.default_voice} - _WITHOUT_DICTIONARY)
        variants = [f"{self.default_voice}+{name}" for name in _VARIANTS]
        ids = [self.default_voice, *variants, *others]
        self.voices = tuple(Voice(name, name.partition("+")[0]) for name in ids)

    def synthesize(self, utterance: Utterance) -> Iterator[NDArray[np.float32]]:
        wanted = utterance.speed * WORDS_PER_MINUTE
        tempo = min(1.0, wanted / library.SLOWEST)
        spoken = self._speak(utterance, round(max(wanted, library.SLOWEST)))
        return bounded(
            paced(spoken, tempo, self.sample_rate), self.sample_rate, utterance.max_frames
        )

    def _speak(self, utterance: Utterance, words_per_minute: int) -> Iterator[NDArray[np.float32]]:
        file = self._file(utterance.voice)
        most = round(PIECE_LETTERS * min(1.0, utterance.speed))
        for piece in pieces(without_controls(utterance.text), most):
            samples = library.speak(
                piece, file, words_per_minute=words_per_minute, seed=utterance.seed
            )
            yield samples.astype(np.float32) / np.float32(32768)

    def _file(self, voice: str) -> str:
        language, plus, variant = voice.partition("+")
        if language not in self._files or (plus and variant not in self._variants):
            raise InvalidRequest(f"voice: espeak-ng has no {voice}", param="voice")
        return self._files[language] + plus + variant

    def close(self) -> None:
        """Nothing stays loaded between two pieces of text."""


def load_espeak(backend: Backend, checkpoint: Checkpoint) -> EspeakBackend:
    """`backend` is the one that the process serves with otherwise. Raises LoadError."""
    facts = ModelFacts(
        backend=backend, vocab_size=0, memory_bytes=checkpoint.weight_bytes, dtype="int16"
    )
    return EspeakBackend(facts, checkpoint.folder)
