"""The cache that one engine's running sequences have reserved. On the device thread."""

from __future__ import annotations

from collections.abc import Callable

from mlxsrv.engines.memory import MemoryBudget


class CacheRoom:
    """Reserves all that a sequence's cache may grow to before it joins the batch."""

    def __init__(
        self,
        memory: MemoryBudget,
        cache_bytes: Callable[[int], int],
        on_short: Callable[[int], None],
    ) -> None:
        """`cache_bytes` are those of a sequence of so many tokens; `on_short` hears of how
        many are missing when kept prefixes can't provide them."""
        self._memory = memory
        self._cache_bytes = cache_bytes
        self._on_short = on_short
        self._held: dict[int, int] = {}
        self._short_at: int | None = None
        self._short_uid: int | None = None

    @property
    def waits(self) -> bool:
        """Whether nothing was given back since room was last short."""
        return self._short_at == self._memory.version

    def take(self, uid: int, tokens: int) -> bool:
        """Reserves for a sequence, if it has not got its room yet. Returns whether it has."""
        if uid in self._held:
            return True
        need = self._cache_bytes(tokens)
        if not self._memory.take("cache", need):
            self._memory.reclaim(need)
            version = self._memory.version
            if not self._memory.take("cache", need):
                if (self._short_at, self._short_uid) != (version, uid):
                    self._on_short(need)
                self._short_at, self._short_uid = version, uid
                return False
        self._held[uid] = need
        self._short_at = None
        return True

    def release(self, uid: int) -> None:
        """Gives back what a sequence holds, if anything; it needs no more."""
        if uid == self._short_uid:
            self._short_at = self._short_uid = None
        if uid in self._held:
            self._memory.release("cache", self._held.pop(uid))
