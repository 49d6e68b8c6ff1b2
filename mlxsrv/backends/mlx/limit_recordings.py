"""What mlx-whisper's `transcribe()` reaches."""

from __future__ import annotations

import time
from pathlib import Path

import mlx_whisper
import numpy as np

from mlxsrv.media.audio_decode import decode

RATE = 16_000


class MlxRecordingsLimit:
    """Implements `RecordingsLimit`; see there for the contract."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        mlx_whisper.transcribe(np.zeros(RATE, np.float32), path_or_hf_repo=self._folder, fp16=False)

    def transcribe(self, path: str) -> tuple[float, str]:
        began = time.perf_counter()
        # Given a path it starts a program to decode it.
        samples = np.concatenate(list(decode(Path(path), rate=RATE)))
        found = mlx_whisper.transcribe(
            samples,
            path_or_hf_repo=self._folder,
            language="en",
            temperature=0.0,
            condition_on_previous_text=False,
            fp16=False,
        )
        return time.perf_counter() - began, found["text"]
