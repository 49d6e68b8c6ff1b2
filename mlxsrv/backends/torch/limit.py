"""What a plain loop over a transformers model reaches."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, DynamicCache

from mlxsrv.backends.torch.precision import threads_for


class TorchLimit:
    """Implements `Limit`; see there for the contract. Threads are chosen as for serving."""

    def __init__(self, folder: Path) -> None:
        self._model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).eval()
        size = sum(parameter.nbytes for parameter in self._model.parameters())
        torch.set_num_threads(threads_for(size))

    @torch.inference_mode()
    def generate(self, prompts: Sequence[Sequence[int]], max_tokens: int) -> list[list[float]]:
        began = time.perf_counter()
        cache = DynamicCache(config=self._model.config)
        inputs = torch.tensor(prompts)
        times = []
        for _ in range(max_tokens):
            logits = self._model(inputs, past_key_values=cache, logits_to_keep=1).logits
            inputs = logits.argmax(dim=-1)
            # Reading the ids is what waits for them, as a server has to.
            inputs.tolist()
            times.append(time.perf_counter() - began)
        return [list(times) for _ in prompts]
