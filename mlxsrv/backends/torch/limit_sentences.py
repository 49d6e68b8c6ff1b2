"""What sentence-transformers reaches in this process."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

import torch

BATCH = 32


class SentencesLimit:
    """An embedding model of sentence-transformers', on as many threads as our own encoders."""

    def __init__(self, folder: Path) -> None:
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(os.cpu_count() or 1)
        self._model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)

    def seconds(self, texts: Sequence[str]) -> float:
        """How long all vectors take, tokens and batches of texts of like length included."""
        began = time.perf_counter()
        self._model.encode(list(texts), batch_size=BATCH, show_progress_bar=False)
        return time.perf_counter() - began
