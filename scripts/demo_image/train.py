"""Train the demo image model on drawn pictures, export it and score it.

Run from the repository root: ``python -m scripts.demo_image.train_vae``, which makes the
autoencoder, then ``python -m scripts.demo_image.train``.  Rectified flow (2209.03003): the model
learns to tell the noise from the picture at every level of noise, most of all at the four levels
at which it is used when nobody asks for more steps.  It can be stopped at any time: started
again with the same ``--cache``, it goes on.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from diffusers import AutoencoderKL
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from scripts.demo_chat.train import learning_rate

from .card import model_card
from .evaluate import MODEL_PATH, scores
from .export import export
from .model import Painter, pack
from .pool import Pool
from .tokens import LENGTH, known_words, make_clip, make_t5
from .train_vae import CACHE

#: The levels of noise at which a picture of four steps is made, and how often they are trained.
_LEVELS, _OFTEN = (1.0, 0.75, 0.5, 0.25), 0.4
_MUON, _ADAMW = 2e-3, 1e-3
_EMA = 0.997
#: What neighbouring latents of a plain differ by at most, and how much of the loss edges make.
_UNEVEN, _EDGES = 1.2, 0.6


@dataclass(slots=True)
class Progress:
    """How the training went so far, for the model card."""

    steps: int = 0
    pictures: int = 0
    seconds: float = 0.0


class Words:
    """Makes token numbers of prompts."""

    def __init__(self) -> None:
        words = known_words()
        self.clip, self.t5 = make_clip(words), make_t5(words)

    def numbers(self, prompts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return CLIP's and T5's token numbers (batch, LENGTH) as the pipeline would."""
        rows = [
            tokenizer(
                prompts,
                padding="max_length",
                max_length=LENGTH,
                truncation=True,
                return_tensors="pt",
            ).input_ids
            for tokenizer in (self.clip, self.t5)
        ]
        return rows[0], rows[1]


def draw_sigmas(rng: Random, count: int) -> torch.Tensor:
    """Draw levels of noise (count), 1 is nothing but noise."""
    levels = (
        rng.choice(_LEVELS) if rng.random() < _OFTEN else 1 - rng.random() for _ in range(count)
    )
    return torch.tensor(list(levels))


def make_optimizers(painter: Painter) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for the rest."""
    inner = {
        name: parameter.ndim == 2 and "embed" not in name and "relative" not in name
        for name, parameter in painter.named_parameters()
    }
    matrices = [p for name, p in painter.named_parameters() if inner[name]]
    rest = [p for name, p in painter.named_parameters() if not inner[name]]
    muon = torch.optim.Muon(
        matrices, lr=_MUON, weight_decay=0.01, adjust_lr_fn="match_rms_adamw", momentum=0.95
    )
    adamw = torch.optim.AdamW(rest, lr=_ADAMW, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    return [muon, adamw]


def weights_of(latents: torch.Tensor) -> torch.Tensor:
    """Return how much each token (batch, tokens, 1) counts: those at edges more, 1 on average.

    Most of a picture is plain, and what shape a small one has shows in a few tokens only.
    """
    spread = F.max_pool2d(latents, 3, 1, 1) + F.max_pool2d(-latents, 3, 1, 1)
    edges = (spread.amax(1, keepdim=True) > _UNEVEN).float()
    busy = F.max_pool2d(edges, 2).flatten(2).transpose(1, 2)
    part = busy.mean(1, keepdim=True).clamp(0.05, 0.95)
    return torch.where(busy > 0, _EDGES / part, (1 - _EDGES) / (1 - part))


class Trainer:
    """The model in training, with a running mean of its weights, which is what is exported."""

    def __init__(self, painter: Painter, words: Words, pool: Pool, seed: int, rate: float) -> None:
        self._rate = rate
        self.painter, self.done = painter, Progress()
        self._compiled = torch.compile(painter, dynamic=False)
        self._words, self._pool, self._seed = words, pool, seed
        self._optimizers = make_optimizers(painter)
        self._weights = list(painter.parameters())
        self._mean = [weight.detach().clone() for weight in self._weights]

    def _loss(self, rng: Random, generator: torch.Generator) -> torch.Tensor:
        latents, prompts = self._pool.batch(rng)
        sigmas = draw_sigmas(rng, len(latents))
        noise = torch.randn(latents.shape, generator=generator)
        share = sigmas.view(-1, 1, 1, 1)
        noisy = share * noise + (1 - share) * latents
        # On a CPU the plain attention is the faster one: its gradient is not written for bfloat16.
        with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            paint = self._compiled if self._pool.is_usual(latents) else self.painter
            out = paint(noisy, sigmas, *self._words.numbers(prompts))
        self.done.pictures += len(latents)
        differences = (out.float() - pack(noise - latents)).square()
        return (differences * weights_of(latents)).mean()

    def step(self, along: float) -> float:
        """Take a step and return its loss; ``along`` is how much of the training is done."""
        rng = Random(f"{self._seed} {self.done.steps}")
        generator = torch.Generator().manual_seed(rng.getrandbits(40))
        loss = self._loss(rng, generator)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._weights, 1.0)
        for optimizer, rate in zip(self._optimizers, (_MUON, _ADAMW), strict=True):
            optimizer.param_groups[0]["lr"] = rate * self._rate * learning_rate(along)
            optimizer.step()
            optimizer.zero_grad()
        self.done.steps += 1
        keep = min(_EMA, 1 - 1 / (1 + 0.1 * self.done.steps))
        torch._foreach_lerp_(self._mean, [w.detach() for w in self._weights], 1 - keep)
        return float(loss)

    def averaged(self) -> Painter:
        """Return the model with the mean weights."""
        painter = Painter(len(self._words.clip), len(self._words.t5))
        with torch.no_grad():
            for weight, mean in zip(painter.parameters(), self._mean, strict=True):
                weight.copy_(mean)
        return painter.eval()

    def save(self, path: Path) -> None:
        """Write all that is needed to go on."""
        states = [optimizer.state_dict() for optimizer in self._optimizers]
        new = path.with_suffix(".new")
        torch.save((self.painter.state_dict(), self._mean, states, self.done), new)
        new.replace(path)

    def load(self, path: Path) -> None:
        """Go on where :meth:`save` was called."""
        state, mean, states, self.done = torch.load(path, weights_only=False)
        self.painter.load_state_dict(state)
        self._mean = mean
        for optimizer, kept in zip(self._optimizers, states, strict=True):
            optimizer.load_state_dict(kept)


def train(
    trainer: Trainer, minutes: float, every: float, checkpoint: Callable[[], None]
) -> Progress:
    """Train for so many minutes in all, with a checkpoint every ``every`` minutes."""
    done, recent = trainer.done, 1.0
    clock = time.monotonic() - done.seconds
    saved = done.seconds
    while done.seconds < 60 * minutes:
        loss = trainer.step(done.seconds / (60 * minutes))
        recent += 0.02 * (loss - recent)
        done.seconds = time.monotonic() - clock
        if done.steps % 100 == 0:
            print(f"{done.seconds / 60:.1f} min, step {done.steps}: loss {recent:.4f}", flush=True)
        if done.seconds - saved > 60 * every:
            saved = done.seconds
            checkpoint()
    checkpoint()
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=80)
    parser.add_argument("--every", type=float, default=4)
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--out", type=Path, default=MODEL_PATH)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rate", type=float, default=1.0, help="scales the learning rate")
    parser.add_argument("--note", default="", help="a remark about this training, for the card")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    vae = AutoencoderKL.from_pretrained(args.cache / "vae")
    pool, words = Pool(vae, args.cache / "pool", args.seed), Words()
    trainer = Trainer(Painter(len(words.clip), len(words.t5)), words, pool, args.seed, args.rate)
    state = args.cache / "state.pt"
    if state.exists():
        trainer.load(state)

    def checkpoint() -> None:
        trainer.save(state)
        export(trainer.averaged(), vae, words.clip, words.t5, (pool.shift, pool.scale), args.out)

    done = train(trainer, args.minutes, args.every, checkpoint)
    found = scores(args.out, verbose=True)
    card = model_card(args.out, done.steps, done.pictures, done.seconds / 60, found, args.note)
    (args.out / "README.md").write_text(card, encoding="utf-8")
    print(card, flush=True)


if __name__ == "__main__":
    main()
