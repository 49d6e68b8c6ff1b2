"""DPM-Solver++ of second order for models that predict velocity (arXiv:2211.01095, 2M). Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

TRAINING_STEPS = 1000


@dataclass(frozen=True, slots=True)
class Level:
    """How much signal and how much noise a sample holds at a time: 0 (sample) to 999 (noise)."""

    time: int
    alpha: float
    sigma: float

    @property
    def ratio(self) -> float:
        """The logarithm of signal to noise."""
        return math.log(self.alpha / self.sigma)


def levels(steps: int) -> tuple[Level, ...]:
    """Those that `steps` steps begin at, and the clean one where the last step ends."""
    kept = _kept()
    times = [round((TRAINING_STEPS - 1) * (1 - step / steps)) for step in range(steps)]
    noisy = [Level(time, math.sqrt(kept[time]), math.sqrt(1 - kept[time])) for time in times]
    return (*noisy, Level(0, 1.0, 0.0))


def _kept() -> list[float]:
    """The share of the signal's variance that is left at each time.

    By the cosine schedule (arXiv:2102.09672), whose steps are capped near its end.
    """
    bars = [
        math.cos((step / TRAINING_STEPS + 0.008) / 1.008 * math.pi / 2) ** 2
        for step in range(TRAINING_STEPS + 1)
    ]
    kept = 1.0
    found = []
    for now, then in pairwise(bars):
        kept *= 1 - min(1 - then / now, 0.999)
        found.append(kept)
    return found


def solve(
    noise: Floats, through: Sequence[Level], velocity: Callable[[Floats, int], Floats]
) -> Iterator[Floats]:
    """From noise to a sample, through `levels`: what there is after each step.

    `velocity` gives alpha * noise - sigma * sample for what it is shown at a time.
    """
    shown = noise
    before: Floats | None = None
    for step, (now, then) in enumerate(pairwise(through)):
        seen = velocity(shown, now.time)
        guess: Floats = np.float32(now.alpha) * shown - np.float32(now.sigma) * seen
        if then.sigma == 0:
            shown = guess
        else:
            leap: Floats = guess
            if before is not None:
                slope = (then.ratio - now.ratio) / (2 * (now.ratio - through[step - 1].ratio))
                leap = guess + np.float32(slope) * (guess - before)
            added = then.alpha * (1 - math.exp(now.ratio - then.ratio))
            shown = np.float32(then.sigma / now.sigma) * shown + np.float32(added) * leap
        before = guess
        yield shown
