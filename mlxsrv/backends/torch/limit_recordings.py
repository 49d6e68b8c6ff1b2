"""What transformers' own speech pipeline reaches."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from transformers import pipeline

from mlxsrv.backends.torch.precision import threads_for
from mlxsrv.media.audio_decode import decode

RATE = 16_000
GREEDY = {"language": "en", "task": "transcribe", "temperature": 0.0, "num_beams": 1}
"""Its own default is five beams."""


class TorchRecordingsLimit:
    """Implements `RecordingsLimit`; see there for the contract. Threads are chosen as for
    serving."""

    def __init__(self, folder: Path) -> None:
        self._pipeline = pipeline(
            "automatic-speech-recognition", model=str(folder), dtype=torch.float32
        )
        parameters = self._pipeline.model.parameters()
        torch.set_num_threads(threads_for(sum(parameter.nbytes for parameter in parameters)))

    def transcribe(self, path: str) -> tuple[float, str]:
        began = time.perf_counter()
        samples = np.concatenate(list(decode(Path(path), rate=RATE)))
        found = self._pipeline(
            {"raw": samples, "sampling_rate": RATE},
            return_timestamps=True,
            generate_kwargs=GREEDY,
        )
        return time.perf_counter() - began, found["text"]
