"""What a checkpoint says about generating from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class GenerationDefaults:
    """What the checkpoint recommends for sampling; None where it says nothing usable."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None


def generation_defaults(generation: Mapping[str, Any]) -> GenerationDefaults:
    """Sampling defaults of a `generation_config.json`.

    `do_sample: false` means greedy, whatever else stands there. Left out it says nothing: many
    checkpoints give a temperature and no `do_sample`. Values out of range are passed over, for
    they would make every request fail that leaves the field out.
    """
    if generation.get("do_sample") is False:
        return GenerationDefaults(temperature=0.0)
    top_k = generation.get("top_k")
    return GenerationDefaults(
        temperature=_between(generation.get("temperature"), 0.0, 2.0),
        top_p=_between(generation.get("top_p"), 1e-6, 1.0),
        top_k=top_k if type(top_k) is int and top_k >= 0 else None,
        min_p=_between(generation.get("min_p"), 0.0, 1.0),
        repetition_penalty=_between(generation.get("repetition_penalty"), 1e-6, 10.0),
    )


def _between(value: object, low: float, high: float) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) and low <= value <= high else None


def eos_ids(*configs: Mapping[str, Any]) -> tuple[int, ...]:
    """The ids that end an answer, from the first configuration that names any."""
    for config in configs:
        named = config.get("eos_token_id")
        ids = named if isinstance(named, list) else [named]
        found = tuple(sorted({item for item in ids if type(item) is int and item >= 0}))
        if found:
            return found
    return ()
