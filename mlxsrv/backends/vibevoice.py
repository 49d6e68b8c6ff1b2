"""VibeVoice (arXiv:2508.19205): a language model that decides frame by frame whether to go on
speaking, and a diffusion head that makes each frame's sound. The same for all backends.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from mlxsrv.backends.base import ModelFacts
from mlxsrv.backends.diffusion_solver import Level, levels, solve
from mlxsrv.backends.spoken import SILENT, bounded, in_slices
from mlxsrv.backends.vibevoice_files import CONTROLS, VibeVoiceSizes
from mlxsrv.core.errors import ContextLengthExceeded, InvalidRequest
from mlxsrv.core.speech import Utterance, Voice
from mlxsrv.media.tempo import paced

Floats = NDArray[np.float32]
Velocity = Callable[[Floats, int], Floats]
"""The diffusion head's answers for a latent at a time, under each condition."""
A = TypeVar("A")
C = TypeVar("C")
S = TypeVar("S")

SAMPLE_RATE = 24_000
LOUDNESS = 10 ** (-25 / 20)
"""Of voices to clone, as a root mean square: -25 dB of full scale."""

PROMPT_TOKENS = 32
"""Fed to the language model at a time."""
HEARD_FRAMES = 4
"""Of the voice to clone, encoded at a time."""
KNOWN_VOICES = 16

_TASK = (
    " Transform the text provided by various speakers into speech output, utilizing the "
    "distinct voice of each respective speaker.\n"
)


class VibeVoiceNet(Protocol[A, C, S]):
    """The networks. `A`: embeddings [1, n, width]; `C`: a cache; `S`: what convolutions keep."""

    def new_cache(self) -> C: ...

    def new_state(self) -> S: ...

    def embed(self, tokens: Sequence[int]) -> A: ...

    def feed(self, embeddings: A, cache: C) -> A:
        """What the language model makes of the last of them [1, width]."""
        ...

    def scores(self, hidden: A, tokens: Sequence[int]) -> list[float]:
        """How likely each of `tokens` comes next."""
        ...

    def velocity(self, latent: Floats, time: int, conditions: Sequence[A]) -> Floats:
        """The diffusion head's answer for one latent under each condition [conditions, latent]."""
        ...

    def encode(self, samples: Floats, state: S) -> Floats:
        """Latents [n, latent] of whole frames of sound."""
        ...

    def project(self, latents: Floats) -> A:
        """Latents of a voice to clone as embeddings."""
        ...

    def decode(self, latent: Floats, state: S) -> Floats:
        """The samples of one frame."""
        ...

    def echo(self, latent: Floats, samples: Floats, state: S) -> A:
        """What the language model hears of a frame it has spoken."""
        ...


@dataclass(frozen=True, slots=True)
class Controls:
    """The tokens that say what comes next."""

    begin: int
    speak: int
    end: int
    stop: int

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Controls:
        begin, speak, end, stop = (int(tokenizer.token_to_id(name) or 0) for name in CONTROLS)
        return cls(begin, speak, end, stop)


class VibeVoiceBackend(Generic[A, C, S]):
    """Implements `SpeechBackend`; see there for the contract.

    Without a voice to clone the seed decides which voice speaks.
    """

    sample_rate = SAMPLE_RATE
    voices = (Voice("default", "en"),)
    default_voice = "default"
    clones = True

    def __init__(
        self,
        net: VibeVoiceNet[A, C, S],
        sizes: VibeVoiceSizes,
        tokenizer: Tokenizer,
        facts: ModelFacts,
    ) -> None:
        self.facts = facts
        self._net: VibeVoiceNet[A, C, S] | None = net
        self._sizes = sizes
        self._tokenizer = tokenizer
        self._controls = Controls.of(tokenizer)
        self._known: dict[bytes, Floats] = {}

    def synthesize(self, utterance: Utterance) -> Iterator[Floats]:
        assert self._net is not None
        frames = in_slices(self._frames(self._net, utterance))
        spoken = paced(frames, utterance.speed, SAMPLE_RATE)
        return bounded(spoken, SAMPLE_RATE, utterance.max_frames)

    def _frames(self, net: VibeVoiceNet[A, C, S], utterance: Utterance) -> Iterator[Floats | None]:
        """Each frame's samples, and None where nothing is ready after a piece of work."""
        draw = np.random.default_rng(utterance.seed)
        hop = self._sizes.hop
        cloned = utterance.reference
        voice = SILENT if cloned is None else _framed(cloned, hop)
        before, after = self._prompt(utterance.text, cloned=cloned is not None)
        length = len(before) + len(voice) // hop + len(after)
        self._require_room(length)
        known = SILENT
        if voice.size:
            known = self._noisy((yield from self._heard(net, voice)), draw)
        cache = net.new_cache()
        for tokens in _parts(before, PROMPT_TOKENS):
            net.feed(net.embed(tokens), cache)
            yield None
        for latents in _parts(known, PROMPT_TOKENS):
            net.feed(net.project(latents), cache)
            yield None
        hidden: A | None = None
        for tokens in _parts(after, PROMPT_TOKENS):
            hidden = net.feed(net.embed(tokens), cache)
            yield None
        assert hidden is not None
        steps = min(2 * length, self._sizes.context - length)
        yield from self._spoken(net, hidden, cache, steps, draw, utterance)

    def _heard(self, net: VibeVoiceNet[A, C, S], voice: Floats) -> Generator[None, None, Floats]:
        """The latents [n, latent] of a voice to clone; those of the last voices are kept, as
        every sentence of a text asks for them anew."""
        key = blake2b(voice.tobytes()).digest()
        found = self._known.pop(key, None)
        if found is None:
            state = net.new_state()
            parts = []
            for part in _parts(voice, HEARD_FRAMES * self._sizes.hop):
                parts.append(net.encode(part, state))
                yield None
            found = np.concatenate(parts)
        self._known[key] = found
        while len(self._known) > KNOWN_VOICES:
            del self._known[next(iter(self._known))]
        return found

    def _noisy(self, latents: Floats, draw: np.random.Generator) -> Floats:
        """The model was trained on latents with noise, of a strength that varies."""
        strength = draw.standard_normal() * self._sizes.spread
        noise = draw.standard_normal(latents.shape, dtype=np.float32)
        return latents + np.float32(strength) * noise

    def _spoken(
        self,
        net: VibeVoiceNet[A, C, S],
        hidden: A,
        cache: C,
        steps: int,
        draw: np.random.Generator,
        utterance: Utterance,
    ) -> Iterator[Floats | None]:
        """One control token a step, and a frame of sound for each that says so."""
        controls = self._controls
        choices = (controls.begin, controls.speak, controls.end, controls.stop)
        through = levels(utterance.diffusion_steps)
        guided = utterance.cfg_scale != 1
        unguided = net.new_cache()
        heard = net.embed([controls.begin])
        spoken, echoed = net.new_state(), net.new_state()
        for _ in range(steps):
            scores = net.scores(hidden, choices)
            token = choices[scores.index(max(scores))]
            if token == controls.stop:
                return
            if token == controls.speak:
                conditions = [hidden, net.feed(heard, unguided)] if guided else [hidden]
                latent = draw.standard_normal(self._sizes.acoustic.latent, dtype=np.float32)
                velocity = partial(net.velocity, conditions=conditions)
                for step in denoised(velocity, latent, through, utterance.cfg_scale):
                    latent = step
                    yield None
                samples = net.decode(latent, spoken)
                yield samples
                heard = net.echo(latent, samples, echoed)
            else:
                heard = net.embed([token])
                if token == controls.begin:
                    unguided = net.new_cache()
                    net.feed(heard, unguided)
                else:
                    spoken, echoed = net.new_state(), net.new_state()
            hidden = net.feed(heard, cache)
            yield None

    def _prompt(self, text: str, *, cloned: bool) -> tuple[list[int], list[int]]:
        """The tokens before and after the latents of the voice to clone."""
        spoken = " ".join(text.replace("’", "'").split())
        before = self._encode(_TASK)
        after: list[int] = []
        if cloned:
            before += [*self._encode(" Voice input:\n"), *self._encode(" Speaker 0:")]
            before.append(self._controls.begin)
            after += [self._controls.end, *self._encode("\n")]
        after += self._encode(" Text input:\n")
        after += self._encode(f" Speaker 0: {spoken}\n")
        after += [*self._encode(" Speech output:\n"), self._controls.begin]
        return before, after

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def _require_room(self, length: int) -> None:
        if length >= self._sizes.context:
            raise ContextLengthExceeded(
                f"The text and the voice to clone are {length} tokens long together, but the "
                f"model takes at most {self._sizes.context}",
                param="input",
            )

    def close(self) -> None:
        self._net = None


def _framed(recording: Floats, hop: int) -> Floats:
    """A voice to clone as loud as the model knows them, in whole frames [n * hop]."""
    if recording.size == 0:
        raise InvalidRequest("voice_data: the recording is empty", param="voice_data")
    scaled = recording * np.float32(LOUDNESS / (np.sqrt(np.mean(recording**2)) + 1e-6))
    scaled /= max(1.0, float(np.abs(scaled).max()))
    return np.pad(scaled, (0, -scaled.size % hop))


def denoised(
    velocity: Velocity, noise: Floats, through: Sequence[Level], scale: float
) -> Iterator[Floats]:
    """By classifier-free guidance (arXiv:2207.12598), where `velocity` knows two conditions."""

    def guided(latent: Floats, time: int) -> Floats:
        found = velocity(latent, time)
        answer: Floats = found[-1] + np.float32(scale) * (found[0] - found[-1])
        return answer

    return solve(noise, through, guided)


R = TypeVar("R", list[int], Floats)


def _parts(row: R, length: int) -> Iterable[R]:
    return (row[start : start + length] for start in range(0, len(row), length))
