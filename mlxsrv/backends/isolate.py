"""Keeping the other backend's library out of the serving process."""

from __future__ import annotations

import os
import sys


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
