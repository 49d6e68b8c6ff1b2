"""Train the demo image model's autoencoder, the first of its two parts.

Run from the repository root: ``python -m scripts.demo_image.train_vae``, the same again with
``--polish``, and then ``python -m scripts.demo_image.train``.  It learns from small squares
first, at a quarter of the cost, and from whole pictures in the end.  To polish is to train the
decoder alone, which can be done at any time: the latents stay as they are.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from random import Random

import torch
from diffusers import AutoencoderKL

from scripts.demo_chat.train import learning_rate

from .draw import SIDE
from .vae import decoder_loss, level, loss_of, make_vae, scribble, to_tensor

CACHE = Path("/tmp/demo-image")
#: From which part of the training on whole pictures are used.
_WHOLE = 0.75
_RATE = 3e-3


def _pictures(rng: Random, whole: bool) -> torch.Tensor:
    pictures, side = (8, SIDE) if whole else (32, SIDE // 2)
    return to_tensor([scribble(rng, side) for _ in range(pictures)])


def _clock(minutes: float) -> Iterator[tuple[int, float]]:
    """Yield the step, and the part of the minutes that is over, until they are."""
    start = time.monotonic()
    for step in count():
        along = (time.monotonic() - start) / (60 * minutes)
        if along >= 1:
            return
        yield step, along


def _report(step: int, along: float, off: float) -> None:
    if step % 50 == 0:
        print(f"{along:4.0%} step {step}: off by {off:.2f} of 255", flush=True)


class Optimizer:
    """Muon for the convolutions, seen as matrices, and AdamW for the rest."""

    def __init__(self, vae: AutoencoderKL) -> None:
        self._weights = [p for p in vae.parameters() if p.requires_grad]
        self._kernels = [p for p in self._weights if p.ndim == 4]
        self._flat = [torch.nn.Parameter(kernel.detach().flatten(1)) for kernel in self._kernels]
        rest = [p for p in self._weights if p.ndim != 4]
        self._muon = torch.optim.Muon(
            self._flat, weight_decay=0.0, adjust_lr_fn="match_rms_adamw", momentum=0.95
        )
        self._adamw = torch.optim.AdamW(rest, betas=(0.9, 0.99), weight_decay=0.0, fused=True)

    def step(self, loss: torch.Tensor, rate: float) -> None:
        """Take a step down a loss, at a learning rate."""
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._weights, 1.0)
        for flat, kernel in zip(self._flat, self._kernels, strict=True):
            flat.grad = kernel.grad.flatten(1) if kernel.grad is not None else None
        for optimizer in (self._muon, self._adamw):
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
        for kernel in self._kernels:
            kernel.grad = None
        self._adamw.zero_grad()


def train(vae: AutoencoderKL, minutes: float, rng: Random) -> None:
    """Train both halves for so many minutes."""
    optimizer = Optimizer(vae)
    for step, along in _clock(minutes):
        loss, off = loss_of(vae, _pictures(rng, along > _WHOLE))
        optimizer.step(loss, _RATE * learning_rate(along))
        _report(step, along, float(off))


def polish(vae: AutoencoderKL, minutes: float, rng: Random) -> None:
    """Train the decoder alone, on whole pictures, for so many minutes."""
    vae.encoder.requires_grad_(False)
    optimizer = Optimizer(vae)
    for step, along in _clock(minutes):
        loss, off = decoder_loss(vae, _pictures(rng, whole=True))
        optimizer.step(loss, _RATE / 2 * learning_rate(along))
        _report(step, along, float(off))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--polish", action="store_true", help="go on, with the decoder alone")
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    rng = Random(f"{args.seed} {args.polish}")
    folder = args.cache / "vae"
    vae = AutoencoderKL.from_pretrained(folder) if args.polish else make_vae()
    if args.polish:
        polish(vae, args.minutes, rng)
    else:
        train(vae, args.minutes, rng)
        level(vae, to_tensor([scribble(rng, SIDE) for _ in range(64)]))
    vae.save_pretrained(folder)


if __name__ == "__main__":
    main()
