"""Keeping libraries from what they do to a process as they are imported."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def hide_torch() -> None:
    """Makes `import torch` fail from now on, which transformers takes as "not installed".

    mlx-lm needs transformers for its tokenizers, and transformers imports torch wherever it
    finds it: a second of start-up and 150 MB for nothing. To be called before any import of it,
    in a process that serves with MLX.
    """
    if "torch" not in sys.modules:
        sys.modules["torch"] = None  # type: ignore[assignment]
        # It would say on every start that it has no torch.
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")


@contextmanager
def open_files_kept() -> Iterator[None]:
    """Whatever is imported inside can't change this process's limits."""
    real = resource.setrlimit
    resource.setrlimit = lambda *_: None
    try:
        yield
    finally:
        resource.setrlimit = real
