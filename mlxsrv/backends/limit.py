"""How fast the libraries themselves are, with no server around them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from mlxsrv.backends.select import Backend


class Limit(Protocol):
    """A model in this process that generates greedily and stops only at `max_tokens`."""

    def generate(self, prompts: Sequence[Sequence[int]], max_tokens: int) -> list[list[float]]:
        """When each token of each sequence was there, in seconds from the start.

        `prompts` are token ids, all of one length.
        """
        ...


def load_limit(backend: Backend, folder: Path) -> Limit:
    """Loads a checkpoint with the library that `backend` builds on."""
    if backend == "mlx":
        from mlxsrv.backends.mlx.limit import MlxLimit

        return MlxLimit(folder)
    from mlxsrv.backends.torch.limit import TorchLimit

    return TorchLimit(folder)


class SentencesLimit(Protocol):
    """An embedding model in this process."""

    def seconds(self, texts: Sequence[str]) -> float:
        """How long the vectors of all texts take."""
        ...


class RecordingsLimit(Protocol):
    """A Whisper model in this process, greedy and without a second try."""

    def transcribe(self, path: str) -> tuple[float, str]:
        """How many seconds an English recording takes, its decoding included, and its text."""
        ...


def load_recordings(backend: Backend, folder: Path) -> RecordingsLimit:
    """Loads a checkpoint with mlx-whisper, which has to be installed and wants its own layout, or
    with transformers."""
    if backend == "mlx":
        from mlxsrv.backends.mlx.limit_recordings import MlxRecordingsLimit

        return MlxRecordingsLimit(folder)
    from mlxsrv.backends.torch.limit_recordings import TorchRecordingsLimit

    return TorchRecordingsLimit(folder)


def load_sentences(folder: Path) -> SentencesLimit:
    """Loads a checkpoint with sentence-transformers, which has to be installed."""
    from mlxsrv.backends.torch import limit_sentences

    return limit_sentences.SentencesLimit(folder)


class PicturesLimit(Protocol):
    """An image model in this process."""

    def draw(self, prompt: str, side: int, steps: int, seed: int) -> tuple[float, float]:
        """How many seconds a square picture takes, as PNG, and how bright it is (0..255)."""
        ...


def load_pictures(backend: Backend, folder: Path) -> PicturesLimit:
    """Loads an image model as the server does."""
    from mlxsrv.backends import checkpoint, load
    from mlxsrv.backends.image_options import ImageOptions
    from mlxsrv.backends.limit_pictures import BackendAlone

    loading = load.load_image(backend, checkpoint.read(folder), ImageOptions())
    return BackendAlone(load.finished(loading))


def load_diffusers(folder: Path) -> PicturesLimit:
    """Loads a FLUX.1 checkpoint with diffusers, which has to be installed."""
    from mlxsrv.backends.torch.limit_pictures import TorchPicturesLimit

    return TorchPicturesLimit(folder)
