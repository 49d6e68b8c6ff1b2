"""What Qwen-Image's editing pipelines read prompts with that show pictures.

transformers' own processor reads videos too, and for them needs torchvision, which is not here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from transformers import AutoTokenizer, BatchFeature, Qwen2VLImageProcessorPil

PICTURE = "<|image_pad|>"


class QwenProcessor:
    """As `Qwen2VLProcessor`, for texts and pictures."""

    def __init__(self, tokenizer: Any, pictures: Qwen2VLImageProcessorPil) -> None:
        self._tokenizer = tokenizer
        self._pictures = pictures

    @classmethod
    def from_pretrained(cls, folder: Path, *, local_files_only: bool) -> QwenProcessor:
        options = {"local_files_only": local_files_only}
        return cls(
            AutoTokenizer.from_pretrained(folder, **options),
            Qwen2VLImageProcessorPil.from_pretrained(folder, **options),
        )

    def __call__(
        self,
        text: Sequence[str],
        images: Sequence[Image.Image] | Image.Image,
        padding: bool,
        return_tensors: str,
    ) -> BatchFeature:
        """Each place for a picture becomes as many tokens as the model sees of it."""
        shown = self._pictures(images=images, return_tensors=return_tensors)
        places = shown["image_grid_thw"].prod(dim=1) // self._pictures.merge_size**2
        counts = iter(places.tolist())
        read = [
            "".join(part if part != PICTURE else PICTURE * next(counts) for part in _parts(one))
            for one in text
        ]
        tokens = self._tokenizer(read, padding=padding, return_tensors=return_tensors)
        return BatchFeature({**tokens, **shown})


def _parts(text: str) -> list[str]:
    """The text cut at the places for pictures, which stay."""
    first, *others = text.split(PICTURE)
    return [first, *(part for other in others for part in (PICTURE, other))]
