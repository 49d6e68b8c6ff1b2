"""The sound of a whole text, piece by piece, from one backend."""

from __future__ import annotations

import math
import secrets
from collections import deque
from collections.abc import Generator, Iterator
from itertools import count

import numpy as np
from numpy.typing import NDArray

from mlxsrv.backends.base import SpeechBackend
from mlxsrv.core.errors import InvalidRequest
from mlxsrv.core.speech import FRAMES_PER_SECOND, SpeechRequest, Utterance
from mlxsrv.engines.sentences import halves, pieces

Samples = NDArray[np.float32]

FRAMES = 150
"""Of a piece, 20 seconds: a model that has not ended by then has lost the thread."""

ENDLESS = 10**9
"""Frames, some four years."""

PIECE, FIRST_PIECE = 150.0, 80.0
"""Letters' worth (see `sentences.weight`): half of what FRAMES hold at an ordinary pace. The
first piece is shorter, so that there is something to hear soon."""

GOLDEN_STEP = 0x9E3779B97F4A7C15
"""Spreads the seeds of one text's pieces (2^64 over the golden ratio, as in SplitMix64)."""

VOICE_SECONDS = 1.0
"""By which a voice can be known again."""

SILENCE_SECONDS = 0.2
"""What a text becomes in which there is nothing to say, such as a row of dashes."""


def spoken(backend: SpeechBackend, request: SpeechRequest) -> Generator[Samples | None, None, None]:
    """Mono samples at the backend's rate; each `next` is one slice.

    None comes after a piece: there something else may be spoken by the same backend. What the
    model can't say is left out. A model that clones voices and is given none goes on in the one
    it began with. Raises InvalidRequest where all of the text can't be said.
    """
    yield from _Speaker(backend, request).sound()


class _Speaker:
    """One text on its way. Lengths are in samples."""

    def __init__(self, backend: SpeechBackend, request: SpeechRequest) -> None:
        self._backend = backend
        self._request = request
        self._seed = secrets.randbits(63) if request.seed is None else request.seed
        self._frame = backend.sample_rate / FRAMES_PER_SECOND
        self._left = round((request.max_frames or ENDLESS) * self._frame)
        self._reference = request.reference
        self._refusal: InvalidRequest | None = None

    def sound(self) -> Iterator[Samples | None]:
        silent = True
        for made in self._pieces():
            samples = None if made is None else made[: self._left]
            if samples is not None and len(samples):
                silent = False
                self._left -= len(samples)
            yield samples
            if not self._left:
                return
        if silent and self._refusal is not None:
            raise self._refusal
        if silent:
            yield np.zeros(round(SILENCE_SECONDS * self._backend.sample_rate), np.float32)

    def _pieces(self) -> Iterator[Samples | None]:
        pace = min(1.0, self._request.speed)
        numbers = count()
        for text in pieces(self._request.text, PIECE * pace, FIRST_PIECE * pace):
            waiting = deque([text])
            while waiting:
                smaller = yield from self._piece(waiting.popleft(), next(numbers))
                waiting.extendleft(reversed(smaller))
                yield None

    def _piece(self, text: str, number: int) -> Generator[Samples, None, list[str]]:
        """Gives smaller pieces where this one is too long, and nothing of it was heard yet."""
        most = round(FRAMES * self._frame)
        made = 0
        heard: list[Samples] = []
        blocks = self._backend.synthesize(self._utterance(text, number))
        try:
            for block in blocks:
                if not made and most <= len(block) and most < self._left:
                    smaller = halves(text)
                    if len(smaller) > 1:
                        return smaller
                samples = block[: most - made]
                made += len(samples)
                heard.append(samples)
                yield samples
                if made == most:
                    break
            self._remember(heard)
        except InvalidRequest as error:
            self._refusal = error
        finally:
            close = getattr(blocks, "close", None)
            if close is not None:
                close()
        return []

    def _remember(self, heard: list[Samples]) -> None:
        """Keeps the voice, once there is enough of it."""
        if self._backend.clones and self._reference is None:
            length = sum(map(len, heard))
            if length >= VOICE_SECONDS * self._backend.sample_rate:
                self._reference = np.concatenate(heard)

    def _utterance(self, text: str, number: int) -> Utterance:
        asked = self._request
        return Utterance(
            text=text,
            voice=asked.voice,
            speed=asked.speed,
            seed=(self._seed + number * GOLDEN_STEP) % 2**63,
            max_frames=min(FRAMES, math.ceil(self._left / self._frame)),
            cfg_scale=asked.cfg_scale,
            diffusion_steps=asked.diffusion_steps,
            reference=self._reference,
        )
