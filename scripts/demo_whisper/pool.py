"""A pool of spoken sentences as mel spectrograms on disk, from which windows are put together.

Speaking and transforming take longer than training on the result once, and every sentence is
used in many windows; hence a pool, made by a process per shard, that is mapped into memory.
"""

from __future__ import annotations

import math
import multiprocessing
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from random import Random
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import torch
from transformers import WhisperFeatureExtractor

from .espeak import Espeak, Spoken, Voice
from .sentences import Sentence, make_voice, talks

Floats = npt.NDArray[np.float32]

RATE = 16000
HOP, WINDOW = 160, 400
#: Frames per second of a mel spectrogram.
FRAMES = RATE // HOP
#: log10 of the power that Whisper takes for silence.
FLOOR = -10.0
MELS = 80

_LEAD, _TAIL = 3, 8
_LOUD = 0.01
#: IPA symbols that say nothing about what sounds when: stress, length, syllables, ties.
_MARKS = set("ˈˌː ˑ̩̯͡‍")


@dataclass(frozen=True, slots=True)
class Utterance:
    """A spoken sentence: where its frames lie, and within them its sound and its words.

    ``start`` and ``end`` are the frames between which there is sound; ``words`` holds pairs of a
    word's first character and first frame.
    """

    sentence: Sentence
    shard: int
    offset: int
    frames: int
    start: int
    end: int
    words: tuple[tuple[int, int], ...]
    phonemes: str


def resample(spoken: Spoken) -> Floats:
    """Bring espeak-ng's audio to 16 kHz by cutting its spectrum off; exact for 22.05 kHz."""
    divisor = math.gcd(spoken.rate, RATE)
    step = spoken.rate // divisor
    samples = spoken.samples.astype(np.float32) / 32768.0
    samples = np.pad(samples, (0, -len(samples) % step))
    size = len(samples) // step * (RATE // divisor)
    spectrum = np.fft.rfft(samples)[: size // 2 + 1]
    wave: Floats = (np.fft.irfft(spectrum, size) * (size / len(samples))).astype(np.float32)
    return wave


class Mel:
    """Whisper's mel power as a base-ten logarithm, before the window's own normalisation."""

    def __init__(self) -> None:
        filters = WhisperFeatureExtractor(feature_size=MELS).mel_filters
        self._filters = torch.from_numpy(np.asarray(filters, np.float32))
        self._window = torch.hann_window(WINDOW)

    def __call__(self, samples: Floats) -> Floats:
        """Transform samples at 16 kHz into frames of shape (time, 80)."""
        wave = torch.from_numpy(samples)
        spectrum = torch.stft(wave, WINDOW, HOP, window=self._window, return_complex=True)
        power = spectrum[:, :-1].abs().square().T @ self._filters
        return np.asarray(power.clamp(min=10.0**FLOOR).log10())


def _sounding(samples: Floats) -> tuple[int, int]:
    """Return the frames between which ``samples`` sound."""
    frames = np.abs(samples[: len(samples) // HOP * HOP]).reshape(-1, HOP).max(1)
    loud = np.flatnonzero(frames > _LOUD * frames.max())
    return int(loud[0]), int(loud[-1]) + 1


class _Shard:
    """Speaks sentences and appends their frames to a file."""

    def __init__(self, number: int, file: BinaryIO) -> None:
        self._number, self._file = number, file
        self._espeak, self._mel = Espeak(), Mel()
        self._offset = 0
        self.utterances: list[Utterance] = []

    def add(self, sentence: Sentence, voice: Voice) -> None:
        spoken = self._espeak.say(sentence.text, voice)
        samples = resample(spoken)
        start, end = _sounding(samples)
        first = max(0, start - _LEAD)
        features = self._mel(samples)[first : end + _TAIL]
        ipa = self._espeak.ipa(sentence.text, voice)
        utterance = Utterance(
            sentence=sentence,
            shard=self._number,
            offset=self._offset,
            frames=len(features),
            start=start - first,
            end=min(len(features), end - first),
            words=tuple(
                (word.character, round(word.seconds * FRAMES) - first)
                for word in spoken.words
                # A number is several words to espeak-ng, and one to us.
                if word.character == 0 or sentence.text[word.character - 1] == " "
            ),
            phonemes="".join(symbol for symbol in ipa if symbol not in _MARKS),
        )
        self.utterances.append(utterance)
        self._offset += len(features)
        features.astype(np.float16).tofile(self._file)


def _make_shard(folder: Path, number: int, count: int, seed: int) -> None:
    """Speak ``count`` sentences into the files of one shard."""
    torch.set_num_threads(1)
    rng, source = Random(seed), talks(seed)
    with (folder / f"{number}.mel").open("wb") as file:
        shard = _Shard(number, file)
        while len(shard.utterances) < count:
            talk = next(source)
            voice = make_voice(rng, talk[0].language)
            for sentence in talk:
                shard.add(sentence, voice)
    (folder / f"{number}.pickle").write_bytes(pickle.dumps(shard.utterances))


class Pool:
    """All utterances of all shards, by language, in the order in which they were spoken."""

    def __init__(self, folder: Path) -> None:
        self.by_language: dict[str, list[Utterance]] = {}
        self._shards: list[npt.NDArray[np.float16]] = []
        for shard in range(len(list(folder.glob("*.pickle")))):
            frames = np.memmap(folder / f"{shard}.mel", np.float16, "r").reshape(-1, MELS)
            self._shards.append(frames)
            for utterance in pickle.loads((folder / f"{shard}.pickle").read_bytes()):
                self.by_language.setdefault(utterance.sentence.language, []).append(utterance)

    def features(self, utterance: Utterance) -> npt.NDArray[np.float16]:
        """Return the frames of an utterance, shape (time, 80)."""
        end = utterance.offset + utterance.frames
        return self._shards[utterance.shard][utterance.offset : end]

    def __iter__(self) -> Iterator[Utterance]:
        return chain.from_iterable(self.by_language.values())

    def __len__(self) -> int:
        return sum(map(len, self.by_language.values()))


def make_pool(folder: Path, count: int, seed: int, shards: int = 2) -> Pool:
    """Load the pool of ``folder``, after making it of ``count`` sentences where there is none."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [shard for shard in range(shards) if not (folder / f"{shard}.pickle").exists()]
    context = multiprocessing.get_context("spawn")
    jobs = [
        context.Process(target=_make_shard, args=(folder, shard, count // shards, seed + shard))
        for shard in missing
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
        if job.exitcode:
            raise RuntimeError(f"a shard of {folder} could not be made")
    return Pool(folder)
