"""Score the demo Whisper model on its held-out set with transformers, greedily, as it is served.

Run from the repository root: ``python -m scripts.demo_whisper.evaluate``.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np

from .espeak import Espeak, Voice
from .pool import RATE, Floats, resample
from .sentences import HELD_OUT_PATH, Item, read_items

MODEL_PATH = Path("models/demo-whisper")
_BATCH = 10


class Segment(NamedTuple):
    """A piece of a transcript, in seconds."""

    text: str
    start: float
    end: float


class Errors(NamedTuple):
    """Words that are wrong, missing or too many, of all words."""

    wrong: int
    words: int

    def __str__(self) -> str:
        return f"{self.wrong / max(1, self.words):.1%} ({self.wrong} of {self.words} words)"


def words_of(text: str) -> list[str]:
    """Split into words without case and punctuation."""
    return re.findall(r"[^\W_]+(?:'[^\W_]+)?", text.lower())


def distance(one: Sequence[str], other: Sequence[str]) -> int:
    """Count the words to change, add or take away (Levenshtein)."""
    row = list(range(len(other) + 1))
    for i, word in enumerate(one, start=1):
        before, row[0] = row[0], i
        for j, match in enumerate(other, start=1):
            change = before + (word != match)
            before, row[j] = row[j], min(change, row[j] + 1, row[j - 1] + 1)
    return row[-1]


def count_errors(pairs: Sequence[tuple[str, str]], verbose: str = "") -> Errors:
    """Count the errors of transcripts: pairs of what should be and what is."""
    wrong = total = 0
    for want, got in pairs:
        errors = distance(words_of(want), words_of(got))
        wrong, total = wrong + errors, total + len(words_of(want))
        if errors and verbose:
            print(f"  wrong [{verbose}] {want!r}: {got!r}")
    return Errors(wrong, total)


class Transcriber:
    """An exported model in transformers, in float32 as a server on a CPU would run it."""

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import WhisperForConditionalGeneration, WhisperProcessor

        self._torch = torch
        self._processor: Any = WhisperProcessor.from_pretrained(folder)
        self._model: Any = WhisperForConditionalGeneration.from_pretrained(
            folder, dtype=torch.float32
        ).eval()

    def _features(self, samples: Any, **options: Any) -> Any:
        return self._processor(
            samples, sampling_rate=RATE, return_tensors="pt", return_attention_mask=True, **options
        )

    def texts(self, recordings: Sequence[Floats], **options: Any) -> list[str]:
        """Transcribe recordings of up to 30 s each; ``options`` are those of ``generate``."""
        said: list[str] = []
        with self._torch.inference_mode():
            for begin in range(0, len(recordings), _BATCH):
                features = self._features(list(recordings[begin : begin + _BATCH]))
                ids = self._model.generate(**features, **options)
                said += self._processor.batch_decode(ids, skip_special_tokens=True)
        return [text.strip() for text in said]

    def segments(self, samples: Floats, **options: Any) -> list[Segment]:
        """Transcribe audio of more than 30 s, window by window."""
        inputs = self._features(samples, truncation=False, padding="longest")
        with self._torch.inference_mode():
            out = self._model.generate(
                **inputs, return_timestamps=True, return_segments=True, **options
            )
        decode = self._processor.tokenizer.decode
        return [
            Segment(
                decode(s["tokens"], skip_special_tokens=True).strip(),
                float(s["start"]),
                float(s["end"]),
            )
            for s in out["segments"][0]
        ]

    def first(self, recordings: Sequence[Floats]) -> Any:
        """Return the probabilities of the first token, of which language detection is a part."""
        start = self._torch.tensor([[self._model.config.decoder_start_token_id]])
        rows: list[Any] = []
        with self._torch.inference_mode():
            for recording in recordings:
                features = self._features(recording).input_features
                rows.append(self._model(features, decoder_input_ids=start).logits[0, -1])
        return self._torch.stack(rows).softmax(-1)

    def languages(self, recordings: Sequence[Floats]) -> list[str]:
        """Detect the languages (their codes)."""
        tokens = self._model.generation_config.lang_to_id
        codes, ids = list(tokens), list(tokens.values())
        best = self.first(recordings)[:, ids].argmax(-1)
        return [codes[index].strip("<|>") for index in best]

    def no_speech(self, recordings: Sequence[Floats]) -> list[float]:
        """Return the probabilities of ``<|nospeech|>`` as the first token."""
        token = self._processor.tokenizer.convert_tokens_to_ids("<|nospeech|>")
        return [float(p) for p in self.first(recordings)[:, token]]


@dataclass(frozen=True, slots=True)
class Recording:
    """Sentences one after the other, and the second at which each begins."""

    samples: Floats
    texts: tuple[str, ...]
    starts: tuple[float, ...]


def record(items: Sequence[Item], speak: Callable[[Item], Floats], seed: int) -> Recording:
    """Let the items be spoken one after the other with pauses between."""
    rng = Random(seed)
    parts: list[Floats] = []
    starts: list[float] = []
    at = 0
    for item in items:
        pause = np.zeros(int(RATE * rng.uniform(0.25, 0.6)), np.float32)
        said = speak(item)
        starts.append((at + len(pause)) / RATE)
        parts += [pause, said]
        at += len(pause) + len(said)
    return Recording(np.concatenate(parts), tuple(i.text for i in items), tuple(starts))


def _late(recording: Recording, segments: Sequence[Segment]) -> list[float]:
    """Return how far the begin of every rightly written segment is off, in seconds."""
    times = dict(zip(recording.texts, recording.starts, strict=True))
    return [abs(s.start - times[s.text]) for s in segments if s.text in times]


def _describe(late: Sequence[float]) -> str:
    if not late:
        return "none written rightly"
    ordered = sorted(late)
    middle, high = ordered[len(late) // 2], ordered[int(0.95 * len(late))]
    return f"off by {middle:.2f} s (median), {high:.2f} s (95th percentile; of {len(late)})"


class Exam:
    """Held-out items as they are spoken, and a model that hears them."""

    def __init__(self, folder: Path, items: Sequence[Item], verbose: bool) -> None:
        self._espeak, self._whisper = Espeak(), Transcriber(folder)
        self._items, self._verbose = items, verbose
        self._heard = {item: self._speak(item) for item in items}

    def _speak(self, item: Item) -> Floats:
        return resample(self._espeak.say(item.text, item.voice))

    def _of(self, kind: str) -> list[Item]:
        return [item for item in self._items if item.kind == kind]

    def test(self, name: str, kinds: Sequence[str], **options: Any) -> str:
        """Score the items of some kinds; ``options`` are those of ``generate``."""
        pairs: list[tuple[str, str]] = []
        translate = options.get("task") == "translate"
        for kind in kinds:
            items = self._of(kind)
            heard = [self._heard[item] for item in items]
            said = self._whisper.texts(heard, language=items[0].language, **options)
            want = [item.english if translate else item.text for item in items]
            pairs += zip(want, said, strict=True)
        return str(count_errors(pairs, name if self._verbose else ""))

    def plain_voice(self) -> str:
        """Score the English sentences in the voice that espeak-ng has where none is asked for."""
        items = [replace(item, voice=Voice("en-us")) for item in self._of("sentence")]
        said = self._whisper.texts([self._speak(item) for item in items], language="en")
        pairs = [(item.text, text) for item, text in zip(items, said, strict=True)]
        return str(count_errors(pairs, "default voice" if self._verbose else ""))

    def languages(self) -> str:
        """Score language detection."""
        found = self._whisper.languages([self._heard[item] for item in self._items])
        right = sum(i.language == f for i, f in zip(self._items, found, strict=True))
        return f"{right} of {len(found)}"

    def recording(self) -> dict[str, str]:
        """Score all English sentences one after the other, and the times of their segments."""
        recording = record(self._of("sentence"), self._speak, 1)
        segments = self._whisper.segments(recording.samples, language="en", task="transcribe")
        pair = (" ".join(recording.texts), " ".join(s.text for s in segments))
        name = f"English, all in one recording of {len(recording.samples) / RATE:.0f} s"
        return {
            name: str(count_errors([pair])),
            "begins of its segments": _describe(_late(recording, segments)),
        }

    def silence(self) -> str:
        """Measure how sure the model is that silence, noise and speech are what they are."""
        noise = np.random.default_rng(1).standard_normal(10 * RATE).astype(np.float32)
        silent, noisy = self._whisper.no_speech([0.0 * noise, 0.01 * noise])
        speech = max(self._whisper.no_speech([self._heard[item] for item in self._of("sentence")]))
        return f"{silent:.3f} in silence, {noisy:.3f} in noise, at most {speech:.3f} in speech"


def score(folder: Path, items: Sequence[Item], verbose: bool = False) -> dict[str, str]:
    """Score the model in everything that it is for: a line for each."""
    exam = Exam(folder, items, verbose)
    return {
        "English": exam.test("English", ["sentence"]),
        "English, with timestamps": exam.test("timed", ["sentence"], return_timestamps=True),
        "English, espeak-ng's default voice": exam.plain_voice(),
        **exam.recording(),
        "English words in any order": exam.test("words", ["words"]),
        "German": exam.test("German", ["de"]),
        "French": exam.test("French", ["fr"]),
        "German and French, in English": exam.test("translated", ["de", "fr"], task="translate"),
        "language detected": exam.languages(),
        "probability of no speech": exam.silence(),
    }


def main() -> int:
    """Score a model from the command line; exit 1 above ``--at-most``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL_PATH)
    parser.add_argument("--items", type=Path, default=HELD_OUT_PATH)
    parser.add_argument("--at-most", type=float, default=1.0, help="word error rate to accept")
    args = parser.parse_args()
    lines = score(args.model, read_items(args.items), verbose=True)
    print("\n".join(f"{name}: {line}" for name, line in lines.items()))
    return 0 if float(lines["English"].split("%")[0]) / 100 <= args.at_most else 1


if __name__ == "__main__":
    sys.exit(main())
