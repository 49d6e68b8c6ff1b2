"""What mlx-lm's own batched generation reaches."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from mlx_lm.generate import BatchGenerator
from mlx_lm.utils import load_model


class MlxLimit:
    """Implements `Limit`; see there for the contract."""

    def __init__(self, folder: Path) -> None:
        self._model, _ = load_model(folder)

    def generate(self, prompts: Sequence[Sequence[int]], max_tokens: int) -> list[list[float]]:
        began = time.perf_counter()
        generator = BatchGenerator(self._model)
        uids = generator.insert([list(p) for p in prompts], max_tokens=[max_tokens] * len(prompts))
        times: dict[int, list[float]] = {uid: [] for uid in uids}
        running = len(uids)
        while running:
            _, responses = generator.next()
            now = time.perf_counter() - began
            for response in responses:
                times[response.uid].append(now)
                running -= response.finish_reason is not None
        generator.close()
        return [times[uid] for uid in uids]
