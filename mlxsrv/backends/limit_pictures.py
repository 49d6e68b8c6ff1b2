"""What one of our own image backends reaches with no server around it."""

from __future__ import annotations

import io
import time

from PIL import Image

from mlxsrv.backends.base import ImageBackend
from mlxsrv.core.image import Drawing


class BackendAlone:
    """Implements `PicturesLimit`; see there for the contract."""

    def __init__(self, backend: ImageBackend) -> None:
        self._backend = backend

    def draw(self, prompt: str, side: int, steps: int, seed: int) -> tuple[float, float]:
        began = time.perf_counter()
        drawing = Drawing(prompt, side, side, steps, seed)
        for step in self._backend.draw(drawing):
            if step is not None and step.picture is not None:
                pixels = step.picture
        Image.fromarray(pixels).save(io.BytesIO(), "PNG")
        return time.perf_counter() - began, float(pixels.mean())
