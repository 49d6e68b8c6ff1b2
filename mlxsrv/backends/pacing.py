"""How many prompt tokens fit into one slice of the device, pure."""

from __future__ import annotations

SMALLEST = 8
LARGEST = 2048
IDLE_FACTOR = 4


class PrefillPacer:
    """Fits the prefill chunk to the slice budget by what earlier chunks took.

    While sequences decode, a chunk may take one slice. With nobody to wait for it, it may
    take `IDLE_FACTOR` slices, because long chunks use the device better.
    """

    def __init__(self, slice_seconds: float, fixed: int | None = None) -> None:
        self.slice_seconds = slice_seconds
        self._fixed = fixed
        self._seconds_per_token: float | None = None

    def chunk(self, *, rows: int, decoding: bool) -> int:
        """Tokens per row for the next chunk of `rows` prompts prefilled together."""
        if self._fixed is not None:
            return self._fixed
        if self._seconds_per_token is None:
            return 64
        budget = self.slice_seconds if decoding else self.slice_seconds * IDLE_FACTOR
        tokens = int(budget / self._seconds_per_token / max(rows, 1))
        return max(SMALLEST, min(LARGEST, tokens - tokens % SMALLEST))

    def observe(self, tokens: int, seconds: float) -> None:
        if tokens <= 0 or seconds <= 0:
            return
        now = seconds / tokens
        before = self._seconds_per_token
        self._seconds_per_token = now if before is None else 0.7 * before + 0.3 * now
