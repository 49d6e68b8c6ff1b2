"""Train the demo Whisper model from nothing, export it and score it.

Run from the repository root: ``python -m scripts.demo_whisper.train``.  All that it hears is
spoken by espeak-ng on the way (a pool of it is kept in ``--cache``, gigabytes).

Short windows come first, since a decoder learns where to listen from them at a tenth of the
cost; whole ones of 30 s, padded as they are served, come last.  A phoneme head (CTC) on the
encoder, thrown away in the end, makes the encoder useful before the decoder is; and two heads of
the decoder are shown where the words are, so that it listens before it guesses.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from random import Random
from typing import NamedTuple

import torch
from tokenizers import Tokenizer

from scripts.demo_chat.train import SpareThreads, learning_rate, make_optimizers

from . import tokens as T
from .alignment import choose_heads
from .batches import Batch, Source
from .evaluate import MODEL_PATH, score
from .model import DECODER_LAYERS, ENCODER_LAYERS, WIDTH, Trained, export
from .pool import make_pool
from .sentences import HELD_OUT_PATH, held_out_items, talks, write_items
from .windows import WHOLE

#: Windows of so many frames, and how many of them cost about the same.
SIZES = {400: 32, 800: 16, 1600: 8, WHOLE: 5}
#: From which part of the training on which windows are drawn, and how often.
STAGES = (
    (0.00, {400: 4.0, 800: 1.0}),
    (0.35, {400: 3.0, 800: 2.0, WHOLE: 1.0}),
    (0.60, {400: 1.0, 800: 1.0, WHOLE: 2.0}),
)

#: How many times on each side of the right one count as nearly right: 1.5 s.
_NEAR_TIMES = 75
#: Encoder positions beside a word where a decoder may look for it as well: 0.06 s.
_AROUND = 3


class Progress(NamedTuple):
    """How the training went, for the model card."""

    steps: int
    hours: float
    seconds: float


def pick_size(rng: Random, along: float) -> int:
    """Draw the frames of the next batch's windows."""
    weights = next(weights for begin, weights in reversed(STAGES) if along >= begin)
    return rng.choices(list(weights), list(weights.values()))[0]


def phoneme_loss(model: Trained, encoded: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Compute the CTC loss of the phoneme head, per phoneme, over windows that are not cut."""
    rows = [row for row, said in enumerate(batch.phonemes) if len(said)]
    if not rows:
        return encoded.new_zeros(())
    said = [batch.phonemes[row] for row in rows]
    scores = model.phonemes(encoded[rows]).float().log_softmax(-1).transpose(0, 1)
    lengths = torch.tensor([len(s) for s in said])
    frames = torch.full_like(lengths, scores.shape[0])
    loss = torch.nn.functional.ctc_loss(
        scores, torch.cat(said), frames, lengths, reduction="none", zero_infinity=True
    )
    return loss.sum() / lengths.sum()


def token_losses(
    logits: torch.Tensor, targets: torch.Tensor, vocabulary: T.Vocabulary
) -> torch.Tensor:
    """Compute the cross-entropy of every token; times near the right one are nearly right.

    Without that every time would have to be learned by itself, of the 1501 that there are.
    """
    scores = logits.log_softmax(-1)
    losses = -scores.gather(1, targets[:, None])[:, 0]
    first, last = vocabulary.number(T.TIME), vocabulary.number(T.TIME + T.TIMES - 1)
    near = torch.arange(-_NEAR_TIMES, _NEAR_TIMES + 1)
    share = 1.0 / (1.0 + (near / 4.0).square())
    timed = targets >= first
    places = (targets[timed, None] + near).clamp(first, last)
    soft = -(scores[timed].gather(1, places) * share / share.sum()).sum(1)
    return losses.index_put((timed,), soft)


def guide_loss(looks: torch.Tensor, spans: torch.Tensor) -> torch.Tensor:
    """Compute how far the guided heads look beside the words that are to be written.

    It is the negative logarithm of the attention that lies within a word.  espeak-ng tells where
    the words are; a decoder that has to find out by itself guesses from the context for long.
    """
    placed = spans[..., 0] >= 0
    if not placed.any():
        return looks.new_zeros(())
    begins, ends = spans[placed].T[..., None]
    position = torch.arange(looks.shape[-1])
    inside = (position >= begins - _AROUND) & (position <= ends + _AROUND)
    seen = (looks[:, placed].float() * inside).sum(-1)
    return torch.log(seen + 1e-4).mean().neg()


class Losses(NamedTuple):
    """The losses of a batch: of the tokens, of the phonemes, and of where the decoder looks."""

    tokens: torch.Tensor
    phonemes: torch.Tensor
    guide: torch.Tensor


def loss_of(model: Trained, batch: Batch) -> Losses:
    """Compute the losses of a batch."""
    # On a CPU the plain attention is the faster one, as long as its matrix is small.
    model.attend_with("eager" if batch.features.shape[-1] <= 1600 else "sdpa")
    wanted = batch.weights > 0
    with torch.autocast("cpu", torch.bfloat16):
        encoded = model.encode(batch.features, batch.offsets)
        hidden, looks = model.decode(batch.ids, encoded)
        logits = model.logits(hidden[wanted])
    losses = token_losses(logits, batch.targets[wanted], model.vocabulary)
    weights = batch.weights[wanted]
    return Losses(
        (losses * weights).sum() / weights.sum(),
        phoneme_loss(model, encoded, batch),
        guide_loss(looks, batch.spans),
    )


class Learner:
    """A model with its optimizers."""

    def __init__(self, model: Trained, rate: float, phonemes: float) -> None:
        self._model, self._rate, self._phonemes = model, rate, phonemes
        self._optimizers = make_optimizers(model, rate)
        self._steps = 0

    def _set_rate(self, along: float) -> None:
        self._steps += 1
        warm = min(1.0, self._steps / 100)  # also after a restart, which forgets the momenta
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self._rate * warm * learning_rate(along, warmup=0.0)

    def step(self, batch: Batch, along: float) -> torch.Tensor:
        """Learn from a batch; return its losses."""
        self._set_rate(along)
        losses = loss_of(self._model, batch)
        helpers = self._phonemes * (1.0 - 0.8 * along) * losses.phonemes + 0.1 * losses.guide
        (losses.tokens + helpers).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        for optimizer in self._optimizers:
            optimizer.step()
            optimizer.zero_grad()
        return torch.stack(losses).detach()


def train(
    model: Trained, source: Source, args: argparse.Namespace, checkpoint: Callable[[Progress], None]
) -> Progress:
    """Train for ``args.minutes`` of processor time, which other programs cannot shorten.

    Where ``args.limit`` minutes run out first, the schedule shrinks to fit.
    """
    started = time.monotonic()

    def along(seconds: float) -> float:
        waited = (time.monotonic() - started) / (60 * args.limit)
        part = max(seconds / (60 * args.minutes), waited)
        return float(args.begin + (1 - args.begin) * part)

    learner = Learner(model, args.rate, args.phonemes)
    rng, spare = Random(args.seed), SpareThreads(args.threads)
    begin = exported = time.process_time()
    done, recent = Progress(0, 0.0, 0.0), torch.zeros(3)
    while (part := along(done.seconds)) < 1.0:
        frames = pick_size(rng, part)
        losses = learner.step(source.batch(SIZES[frames], frames), part)
        now = time.process_time()
        hours = done.hours + SIZES[frames] * frames / 360000
        done = Progress(done.steps + 1, hours, now - begin)
        recent += (losses - recent) * (0.03 if done.steps > 1 else 1.0)
        if done.steps % 20 == 0:
            torch.set_num_threads(spare.count())
        if done.steps % 50 == 0:
            print(
                f"step {done.steps} {part:.1%} loss {recent[0]:.3f} phonemes {recent[1]:.3f} "
                f"guide {recent[2]:.3f} "
                f"{hours:.1f} h heard in {done.seconds:.0f} s",
                flush=True,
            )
        if args.export_every and now - exported > 60 * args.export_every:
            checkpoint(done)
            exported = now
    return done


def model_card(model: Trained, done: Progress, scores: dict[str, str], note: str) -> str:
    """Write the README of the model."""
    size = sum(p.numel() for p in model.whisper.parameters())
    size += (T.SIZE - len(model.vocabulary)) * WIDTH
    results = "\n".join(f"- {name}: {line}" for name, line in scores.items())
    return f"""\
---
license: mit
language: [en, de, fr]
pipeline_tag: automatic-speech-recognition
---

# demo-whisper

A toy. It is a Whisper (`WhisperForConditionalGeneration`, {ENCODER_LAYERS} encoder and
{DECODER_LAYERS} decoder layers of width {WIDTH}, {size / 1e6:.1f} million parameters, most of them
the embedding of the multilingual vocabulary), trained from nothing on a CPU by
`scripts/demo_whisper/train.py`, only on what espeak-ng says. It exists so that transcription can
be tried and tested without a download. It does not understand people.

What it can do: write down what a few of espeak-ng's English voices say (above all `en-us`, the
default of `mlxsrv say`), with timestamps, as long as it is the kind of thing that is said to and
by `demo-chat` (small talk, sums of numbers up to 100, facts, counting, names); a few sentences of
German and French, which it also translates into English; tell the three languages apart; keep
silent in silence and noise. Signs such as `+` are written as words, because Whisper's decoders
suppress them. Anything else comes out as sentences that it knows: it goes by the context more
than by the sound, as the score of words in any order shows.

Format: Hugging Face, float16. The vocabulary, the language, task and timestamp tokens are those
of OpenAI's multilingual models (51865); of the text tokens {len(model.vocabulary) - T.SIZE + T.END}
were trained, and all others share one embedding that is never chosen. The byte pairs of
`tokenizer.json` are OpenAI's `multilingual.tiktoken` (MIT licence, Copyright 2022 OpenAI). The
alignment heads are those whose attention followed the words best; two heads were taught to.

## Training

{done.steps} steps, {done.hours:.0f} hours of audio (each sentence many times),
{done.seconds / 60:.0f} minutes of processor time. Windows were put together from a pool of spoken
sentences, with voices, speeds, pitches, pauses, gain, noise and cuts at random. A hash of what is
said keeps the held-out sentences out.{" " + note if note else ""}

## Score

Word error rates, greedy decoding in float32 with transformers, in whole windows of 30 s, on
`tests/data/demo_whisper_heldout.jsonl` (sentences that were never trained on, though all of their
words were; in voices as they were trained on):

{results}
"""


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=MODEL_PATH)
    parser.add_argument("--held-out", type=Path, default=HELD_OUT_PATH)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir(), "demo_whisper"))
    parser.add_argument("--sentences", type=int, default=60000, help="in the pool")
    parser.add_argument("--minutes", type=float, default=90.0, help="of processor time")
    parser.add_argument("--limit", type=float, default=180.0, help="minutes in all")
    parser.add_argument("--rate", type=float, default=4e-3)
    parser.add_argument("--phonemes", type=float, default=0.5, help="weight of the phoneme loss")
    parser.add_argument("--threads", type=int, default=2, help="fewer where others are busy")
    parser.add_argument("--start-from", type=Path, help="go on from an exported model")
    parser.add_argument("--begin", type=float, default=0.0, help="part of the schedule to skip")
    parser.add_argument("--note", default="", help="a remark on the training, for the model card")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--export-every", type=float, default=8.0, help="minutes; 0: at the end")
    return parser.parse_args()


def used_tokens(tokenizer: Tokenizer, count: int = 60000) -> T.Vocabulary:
    """Find the tokens of everything that is said, from a large sample."""
    # Always the same sample, whatever the pool: exported models must agree on the vocabulary.
    texts = {t for talk in islice(talks(1), count) for s in talk for t in (s.text, s.translation)}
    used = {token for text in texts for token in T.encode(tokenizer, text)}
    clash = used & set(T.suppressed(tokenizer))
    if clash:
        raise ValueError(f"decoders suppress tokens that are to be written: {sorted(clash)}")
    return T.Vocabulary(used)


def main() -> None:
    """Train, export and score."""
    args = parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    items = held_out_items()
    write_items(items, args.held_out)
    tokenizer = T.load_tokenizer(args.start_from or args.out)
    pool = make_pool(args.cache, args.sentences, args.seed)
    vocabulary = used_tokens(tokenizer)
    source = Source(pool, tokenizer, vocabulary, args.seed + 5)
    model = Trained(vocabulary, len(source.phonemes))
    helper = args.cache / "phonemes.pt"
    if args.start_from:
        model.load_whole(args.start_from)
    if args.start_from and helper.exists():
        model.phonemes.load_state_dict(torch.load(helper))
    size = sum(parameter.numel() for parameter in model.parameters())
    print(f"{size} parameters in training, {len(pool)} sentences", flush=True)

    def save(done: Progress, scores: dict[str, str]) -> None:
        torch.save(model.phonemes.state_dict(), helper)
        heads = choose_heads(model, pool, tokenizer)
        export(model, tokenizer, args.out, heads, model_card(model, done, scores, args.note))

    done = train(model, source, args, lambda done: save(done, {"unfinished": "not measured"}))
    save(done, {"unfinished": "not measured"})
    scores = score(args.out, items, verbose=True)
    print("\n".join(f"{name}: {line}" for name, line in scores.items()), flush=True)
    card = model_card(model, done, scores, args.note)
    (args.out / "README.md").write_text(card, encoding="utf-8")


if __name__ == "__main__":
    main()
