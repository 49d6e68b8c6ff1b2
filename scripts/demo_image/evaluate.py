"""Judge the demo image model's pictures of its held-out prompts, drawn with diffusers.

Run from the repository root: ``python -m scripts.demo_image.evaluate``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from .draw import SIDE, Picture
from .judge import judge
from .prompts import describe, plain
from .scenes import COLOURS, POSITIONS, SIZES, Figure, Scene, combinations, is_held_out
from .shapes import SHAPES

MODEL_PATH = Path("models/demo-image")
HELD_OUT_PATH = Path("tests/data/demo_image_heldout.jsonl")
_BATCH = 8
_PLAIN, _OTHER, _PAIRS = 40, 20, 40

#: Prompts and a seed to pictures.
Paint = Callable[[Sequence[str], int], list[Picture]]


@dataclass(frozen=True, slots=True)
class Item:
    """A prompt and what its picture has to show."""

    kind: str
    prompt: str
    scene: Scene


def _single(rng: Random, kind: str, combination: tuple[str, str, str]) -> Item:
    """Make a prompt of a combination; the kinds ``plain`` and ``words`` are told by their words."""
    shape, colour, background = combination
    size, position = "medium", "center"
    if kind in ("size", "words"):
        size = rng.choice([size for size in SIZES if kind == "words" or size != "medium"])
    if kind in ("position", "words"):
        position = rng.choice([p for p in POSITIONS if kind == "words" or p != "center"])
    scene = Scene(background, (Figure(shape, colour, size, position),))
    return Item(kind, describe(rng, scene) if kind == "words" else plain(scene), scene)


def make_items(seed: int = 1) -> list[Item]:
    """Make the held-out set: combinations that are not in the training, each of them once."""
    rng = Random(seed)
    kept_out = [combination for combination in combinations() if is_held_out(*combination)]
    rng.shuffle(kept_out)
    kinds = ["plain"] * _PLAIN + [k for k in ("size", "position", "words") for _ in range(_OTHER)]
    return [_single(rng, *row) for row in zip(kinds, kept_out, strict=False)]


def make_pairs(seed: int = 2) -> list[Item]:
    """Make prompts of two figures, at least one of them of a held-out combination."""
    rng, items = Random(seed), list[Item]()
    while len(items) < _PAIRS:
        background = rng.choice(list(COLOURS))
        others = [colour for colour in COLOURS if colour != background]
        places = rng.choice((("left", "right"), ("top", "bottom")))
        scene = Scene(
            background,
            tuple(Figure(rng.choice(SHAPES), rng.choice(others), "medium", p) for p in places),
        )
        if scene.held_out:
            items.append(Item("two shapes", describe(rng, scene), scene))
    return items


def write_items(path: Path, items: Sequence[Item]) -> None:
    """Write prompts of one figure, a JSON object a line."""
    with path.open("w", encoding="utf-8") as file:
        for item in items:
            row = {"kind": item.kind, "prompt": item.prompt, "background": item.scene.background}
            file.write(json.dumps(row | asdict(item.scene.figures[0])) + "\n")


def read_items(path: Path) -> list[Item]:
    """Read what :func:`write_items` wrote."""
    items = []
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        figure = Figure(row["shape"], row["colour"], row["size"], row["position"])
        items.append(Item(row["kind"], row["prompt"], Scene(row["background"], (figure,))))
    return items


def painter(folder: Path, steps: int, width: int = SIDE, height: int = SIDE) -> Paint:
    """Load the model to draw in float32, in so many steps."""
    import torch
    from diffusers import FluxPipeline

    pipeline: Any = FluxPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    length = pipeline.tokenizer_2.model_max_length

    def paint(prompts: Sequence[str], seed: int) -> list[Picture]:
        pictures = pipeline(
            list(prompts),
            width=width,
            height=height,
            num_inference_steps=steps,
            guidance_scale=0.0,
            max_sequence_length=length,
            generator=torch.Generator().manual_seed(seed),
            output_type="np",
        ).images
        return list((pictures * 255 + 0.5).astype(np.uint8))

    return paint


def score(paint: Paint, items: Sequence[Item], verbose: bool = False) -> dict[str, str]:
    """Return for each kind how many of its pictures are right; seeds differ from batch to batch."""
    right, asked = Counter[str](), Counter[str]()
    for first in range(0, len(items), _BATCH):
        batch = items[first : first + _BATCH]
        pictures = paint([item.prompt for item in batch], first)
        for item, picture in zip(batch, pictures, strict=True):
            faults = judge(picture, item.scene)
            asked[item.kind] += 1
            right[item.kind] += not faults
            if faults and verbose:
                print(f"{item.prompt!r}: {'; '.join(faults)}", file=sys.stderr)
    return {kind: f"{right[kind]} of {asked[kind]}" for kind in asked}


def scores(folder: Path, verbose: bool = False) -> dict[str, str]:
    """Score a model in every way that its card tells."""
    items, rows = read_items(HELD_OUT_PATH), dict[str, str]()
    every = [Item("all", item.prompt, item.scene) for item in items]
    for steps in (4, 20):
        paint = painter(folder, steps)
        for group in (every, items, make_pairs()):
            found = score(paint, group, verbose and group is not every)
            rows |= {f"{kind}, {steps} steps": line for kind, line in found.items()}
    for width, height in ((192, 128), (96, 160), (64, 64), (256, 256)):
        found = score(painter(folder, 4, width, height), every[:40])
        rows[f"plain, {width}x{height}, 4 steps"] = found["all"]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, nargs="?", default=MODEL_PATH)
    parser.add_argument("--write", action="store_true", help="write the held-out set and stop")
    args = parser.parse_args()
    if args.write:
        write_items(HELD_OUT_PATH, make_items())
        return
    for name, line in scores(args.model, verbose=True).items():
        print(f"- {name}: {line}")


if __name__ == "__main__":
    main()
