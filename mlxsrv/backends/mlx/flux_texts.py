"""What FLUX.1 reads of a prompt, on MLX: every token by T5, and the gist by CLIP."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx

from mlxsrv.backends.jsonfile import read_object
from mlxsrv.backends.mlx.clip import Clip, clip_shape
from mlxsrv.backends.mlx.encoder_load import loading_errors
from mlxsrv.backends.mlx.flux_files import after, load_clip, load_t5
from mlxsrv.backends.mlx.pieces import Pace, Pieces
from mlxsrv.backends.mlx.t5 import T5, t5_shape
from mlxsrv.backends.prompt_tokens import PromptTokens
from mlxsrv.backends.recent import Recent

KEPT_PROMPTS = 4
"""Whose encodings are kept, some megabytes each: the pictures of a request share a prompt."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """`text` [1, tokens, T5's width], `pooled` [1, CLIP's width]."""

    text: mx.array
    pooled: mx.array


@dataclass(frozen=True, slots=True)
class Encoders:
    t5: T5
    clip: Clip


class FluxTexts:
    """The text encoders of a folder; `staged`: they are in memory only while they read."""

    def __init__(
        self,
        folder: Path,
        tokens: int,
        *,
        bits: int | None,
        staged: bool,
        staged_bytes: int,
        slice_seconds: float,
    ) -> None:
        """`tokens` is how many T5 reads of a prompt at most; `staged_bytes` are what the encoders
        take while they read where they are staged. Raises LoadError."""
        self.staged_bytes = staged_bytes
        self._folder = folder
        self._bits = bits
        self._staged = staged
        self._seconds = slice_seconds
        with loading_errors(folder):
            self.shape = t5_shape(read_object(folder / "text_encoder_2" / "config.json"))
            self._clip_shape = clip_shape(read_object(folder / "text_encoder" / "config.json"))
        self._t5_tokens = PromptTokens(folder / "tokenizer_2", tokens, self.shape.vocabulary)
        clip = self._clip_shape
        self._clip_tokens = PromptTokens(folder / "tokenizer", clip.positions, clip.vocabulary)
        self._recent: Recent[str, Prompt] = Recent(KEPT_PROMPTS)
        self._encoders: Encoders | None = None
        self._busy = False

    @property
    def pooled_width(self) -> int:
        return self._clip_shape.width

    @property
    def tokens(self) -> int:
        """Of which each prompt is made, padding included."""
        return self._t5_tokens.length

    @property
    def modules(self) -> tuple[T5 | Clip, ...]:
        """Those that stay in memory."""
        return () if self._encoders is None else (self._encoders.t5, self._encoders.clip)

    def load(self) -> Generator[int, None, None]:
        """Yields the bytes read so far. Raises LoadError."""
        if not self._staged:
            self._encoders = yield from self._read()

    def _read(self) -> Generator[int, None, Encoders]:
        clip, read = yield from after(0, load_clip(self._folder / "text_encoder"))
        t5, _ = yield from after(read, load_t5(self._folder / "text_encoder_2", self._bits))
        return Encoders(t5, clip)

    def encode(self, prompt: str) -> Generator[None, None, Prompt]:
        """One `next` is one slice. Raises LoadError where it has to load and can't."""
        # Two drawings at once must not have the encoders in memory twice.
        while self._busy:
            yield
        known = self._recent.get(prompt)
        if known is None:
            self._busy = self._staged
            try:
                known = yield from self._encoded(prompt)
            finally:
                self._busy = False
            self._recent.put(prompt, known)
            if self._staged:
                mx.clear_cache()
        return known

    def _encoded(self, prompt: str) -> Generator[None, None, Prompt]:
        encoders = self._encoders
        if encoders is None:
            reading = self._read()
            while encoders is None:
                try:
                    next(reading)
                except StopIteration as end:
                    encoders = end.value
                yield
        pooled = yield from self._run(encoders.clip(self._clip_tokens.ids(prompt)))
        text = yield from self._run(encoders.t5(self._t5_tokens.ids(prompt)))
        return Prompt(text, pooled)

    def _run(self, pieces: Pieces) -> Generator[None, None, mx.array]:
        return (yield from Pace(self._seconds).run(pieces))

    def close(self) -> None:
        self._encoders = None
        self._recent.clear()
