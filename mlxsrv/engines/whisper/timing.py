"""When each token is spoken, from the attention of the heads that follow the words.

The scores are normalised, smoothed and averaged, and the best monotonic path through them, found
by dynamic time warping, gives every token its moment (as in OpenAI's timing.py).
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]

SECONDS_PER_MOMENT = 0.02
MEDIAN_WIDTH = 7


def token_times(scores: Floats, before: int, moments: int) -> NDArray[np.float64]:
    """Seconds [tokens - before - 1] at which each token begins, the end of the text included.

    `scores` [heads, tokens, audio] are those of a whole transcript, of whose tokens the first
    `before` say nothing and the last ends the text. Only the first `moments` hold sound.
    """
    weights = _normal(scores[:, :, :moments])
    matrix = median_filter(weights).mean(axis=0)[before:-1]
    tokens, times = warp(-matrix)
    begins = np.diff(tokens, prepend=-1).astype(bool)
    seconds: NDArray[np.float64] = times[begins] * SECONDS_PER_MOMENT
    return seconds


def _normal(scores: Floats) -> Floats:
    """Softmax over the moments; then, at each moment, mean 0 and deviation 1 over the tokens."""
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    weights -= weights.mean(axis=-2, keepdims=True)
    deviation = weights.std(axis=-2, keepdims=True)
    normal: Floats = weights / np.maximum(deviation, np.finfo(np.float32).tiny)
    return normal


def median_filter(values: Floats) -> Floats:
    """The median of each MEDIAN_WIDTH neighbours along the last axis, mirrored at its ends."""
    half = MEDIAN_WIDTH // 2
    if values.shape[-1] <= half:
        return values
    padded = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(half, half)], mode="reflect")
    filtered = np.empty_like(values)
    for source, target in zip(padded, filtered, strict=True):  # a head at a time, for memory
        around = sliding_window_view(source, MEDIAN_WIDTH, axis=-1)
        target[:] = np.partition(around, half, axis=-1)[..., half]
    return filtered


def warp(costs: Floats) -> tuple[Indices, Indices]:
    """The cheapest path through `costs` [rows, columns] from corner to corner.

    Gives its rows and its columns. Each step goes on in one of them, or in both.
    """
    rows, columns = costs.shape
    steps = _steps(costs)
    row, column = rows, columns
    path = []
    while row > 0 or column > 0:
        path.append((row - 1, column - 1))
        step = 1 if column == 0 else 2 if row == 0 else steps[row + column, row]
        row -= step != 2
        column -= step != 1
    found = np.array(path[::-1], dtype=np.int64).reshape(-1, 2)
    return found[:, 0], found[:, 1]


def _steps(costs: Floats) -> NDArray[np.int8]:
    """The last step to each cell (0 both, 1 row, 2 column), at [row + column, row].

    Cells of one diagonal depend on the two before it alone, so each is computed at once.
    """
    rows, columns = costs.shape
    steps = np.full((rows + columns + 1, rows + 1), 2, np.int8)
    older = np.full(rows + 1, np.inf, np.float32)
    last = older.copy()
    older[0] = 0
    for diagonal in range(2, rows + columns + 1):
        row = np.arange(max(1, diagonal - columns), min(rows, diagonal - 1) + 1)
        both, up, left = older[row - 1], last[row - 1], last[row]
        step = np.where((both < up) & (both < left), 0, np.where(up < left, 1, 2))
        steps[diagonal, row] = step
        now = np.full(rows + 1, np.inf, np.float32)
        now[row] = costs[row - 1, diagonal - row - 1] + np.choose(step, (both, up, left))
        older, last = last, now
    return steps
