"""Who holds how much of the memory that models may use together. Pure accounting."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Literal

from mlxsrv.core.errors import InsufficientMemory

Use = Literal["weights", "adapters", "activations", "cache", "prefix_cache"]

USES: tuple[Use, ...] = ("weights", "adapters", "activations", "cache", "prefix_cache")


class MemoryBudget:
    """Bytes held by what they are for, never more than `limit` together.

    Any thread may call. Prefixes that were kept for later give way to everything else:
    `reclaim` asks those who keep them, on the device thread, where they live.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.version = 0
        """Grows whenever something was given back."""
        self._held: Counter[Use] = Counter()
        self._lock = threading.Lock()
        self._reclaimers: list[Callable[[int], int]] = []
        self._listeners: list[Callable[[], None]] = []

    @property
    def available(self) -> int:
        return self.limit - sum(self._held.values())

    def held(self) -> Mapping[str, int]:
        return {use: self._held[use] for use in USES}

    def take(self, use: Use, nbytes: int) -> bool:
        """Holds so many more bytes if they are available."""
        with self._lock:
            if nbytes > self.available:
                return False
            self._held[use] += nbytes
            return True

    def change(self, use: Use, nbytes: int) -> None:
        """Sets right by how much more or less is held, whatever the limit."""
        with self._lock:
            self._held[use] += nbytes
        if nbytes < 0:
            self._gave_back()

    def release(self, use: Use, nbytes: int) -> None:
        self.change(use, -nbytes)

    def _gave_back(self) -> None:
        self.version += 1
        for listener in tuple(self._listeners):
            listener()

    # Those who can wait, and those who can give way

    def on_release(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Calls `listener` whenever bytes were given back, on the thread that gave them.

        Returns what ends that.
        """
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def on_reclaim(self, reclaimer: Callable[[int], int]) -> Callable[[], None]:
        """Asks `reclaimer` for bytes when they are short: it gives back what it can, at most
        about so many, and returns how many those were. Returns what ends that."""
        self._reclaimers.append(reclaimer)
        return lambda: self._reclaimers.remove(reclaimer)

    def reclaim(self, nbytes: int) -> int:
        """Makes `nbytes` available as far as kept prefixes allow. Returns the bytes given back."""
        freed = 0
        for reclaimer in tuple(self._reclaimers):
            missing = nbytes - self.available
            if missing <= 0:
                break
            freed += reclaimer(missing)
        return freed

    def refusal(self, what: str, nbytes: int) -> InsufficientMemory:
        """The error for `what`, which needs so many bytes, in numbers."""
        held = ", ".join(f"{use} {size(count)}" for use, count in self._held.items() if count > 0)
        return InsufficientMemory(
            f"{what} needs {size(nbytes)} of memory, and {size(max(0, self.available))} of the "
            f"budget of {size(self.limit)} is free ({held or 'nothing is held'})"
        )


def size(nbytes: int) -> str:
    """Bytes for people, in decimal units."""
    value = float(nbytes)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"
