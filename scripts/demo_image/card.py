"""The model card."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path

from .draw import SIDE
from .model import DOUBLE, HEAD, HEADS, SINGLE
from .scenes import COLOURS, combinations, is_held_out
from .shapes import SHAPES
from .tokens import LENGTH

_CARD = """---
license: mit
language: [en]
pipeline_tag: text-to-image
---

# demo-image

A toy. It is a Flux (`FluxPipeline`: {double} double and {single} single layers of width {width},
CLIP's and T5's text encoders, an autoencoder with 8 pixels to a latent; {parameters:.1f} million
parameters in all), trained from nothing on a CPU by `scripts/demo_image`, only on pictures that
the scripts draw. It exists so that images can be tried and tested without a download.

What it can do: one shape on a plain background, in four steps, at {side}x{side}.

- shapes: {shapes}
- colours: {colours}
- sizes: small, medium (where none is said), large
- places: center (where none is said), left, right, top, bottom and the four corners
- the background is white where none is said

So `a red circle on a blue background`, or `Large yellow star in the top left corner, black
background.`; some other words will do as well (grey, disc, box, rhombus, donut, plus sign, tiny,
huge, upper left). Its weaknesses are stars and small shapes, which often come out as blobs. It saw
two shapes beside or above each other (`a red circle and a green square on a white background`),
and pictures from 64x64 to 256x256 that are not 128x128, but too little of both: there it mostly
fails. It cannot read words all in capitals. Anything else, it turns into shapes. It knows no
negative prompt and no guidance.

Format: diffusers, float16, for use in float32. Both tokenizers hold {length} tokens.

## Training

{training}

{held_out} of the {all} combinations of a shape, its colour and the background's were kept out of
the training, in whatever words, size and place, also of the pictures with two shapes
(`scenes.is_held_out`). The held-out set takes its prompts from these alone, each of them once. (The
autoencoder, which sees no words, saw shapes in any colours.)

## Score

Right are the pictures in which `scripts/demo_image/judge.py` finds nothing wrong: background,
colour, shape, size and place, and nothing else in the picture. Prompts are those of
`tests/data/demo_image_heldout.jsonl` ("plain" says only shape, colour and background; "words"
says things in other words) and, of two shapes, those of `evaluate.make_pairs`. Drawn with
diffusers in float32.

{scores}
"""


def parameters_of(folder: Path) -> float:
    """Return the millions of parameters of a folder in float16."""
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors")) / 2e6


def model_card(
    folder: Path, steps: int, pictures: int, minutes: float, scores: Mapping[str, str], note: str
) -> str:
    """Write the card of a model that is in ``folder``."""
    kinds = combinations()
    return _CARD.format(
        double=DOUBLE,
        single=SINGLE,
        width=HEADS * HEAD,
        parameters=parameters_of(folder),
        side=SIDE,
        shapes=", ".join(SHAPES),
        colours=", ".join(COLOURS),
        length=LENGTH,
        training=textwrap.fill(
            f"{steps} steps, {pictures} pictures (each of a pool many times), {minutes:.0f} "
            f"minutes; the autoencoder 10 minutes before that, its decoder alone some more. {note}",
            100,
        ),
        held_out=sum(is_held_out(*kind) for kind in kinds),
        all=len(kinds),
        scores="\n".join(f"- {name}: {line}" for name, line in scores.items()),
    )
