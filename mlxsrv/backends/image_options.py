"""How an image model is to be held in memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """`staged`: the text encoders, which are often the larger half, are in memory only while they
    read a prompt. `quantize`: bits a weight that plain weights are packed to while they are
    loaded, where the backend can. `preview`: a small decoder (TAEF1's) that makes previews;
    without it they are a linear guess. `slice_seconds`: how long a slice should take at most.
    """

    staged: bool = False
    quantize: Literal[4, 8] | None = None
    preview: Path | None = None
    slice_seconds: float = 0.05
