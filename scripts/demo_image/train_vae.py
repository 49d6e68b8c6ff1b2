"""Train the demo image model's autoencoder, the first of two parts.

Run from the repository root: ``python -m scripts.demo_image.train_vae``, then
``python -m scripts.demo_image.train``.  It learns from small squares first, at a quarter of the
cost, and from whole pictures in the end.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from random import Random

import torch
from diffusers import AutoencoderKL

from scripts.demo_chat.train import learning_rate

from .vae import SIDE, loss_of, make_vae, scribble, to_tensor

CACHE = Path("/tmp/demo-image")
#: From which part of the training on whole pictures are used.
_WHOLE = 0.75


def _pictures(rng: Random, whole: bool) -> torch.Tensor:
    count, side = (8, SIDE) if whole else (32, SIDE // 2)
    return to_tensor([scribble(rng, side) for _ in range(count)])


def train(vae: AutoencoderKL, minutes: float, seed: int) -> int:
    """Train for so many minutes and return the steps."""
    rng, start, steps = Random(seed), time.monotonic(), 0
    optimizer = torch.optim.AdamW(vae.parameters(), betas=(0.9, 0.99), weight_decay=0, fused=True)
    while (along := (time.monotonic() - start) / (60 * minutes)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * learning_rate(along)
        loss, off = loss_of(vae, _pictures(rng, along > _WHOLE))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        if steps % 50 == 0:
            print(f"{along:4.0%} step {steps}: loss {loss:.4f}, off by {off:.2f}", flush=True)
        steps += 1
    return steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    vae = make_vae()
    steps = train(vae, args.minutes, args.seed)
    vae.save_pretrained(args.cache / "vae")
    print(f"{steps} steps; written to {args.cache / 'vae'}", flush=True)


if __name__ == "__main__":
    main()
