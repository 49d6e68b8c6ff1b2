"""Which models give way to others. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from mlxsrv.registry.entry import Entry


def may_go(entry: Entry) -> bool:
    """Whether a model that is in memory may be taken out for another."""
    return entry.model is not None and not entry.settings.pin and not entry.leaving


def victim(entries: Iterable[Entry], *, idle_only: bool = False) -> Entry | None:
    """Who goes first: idle models before busy ones, and of those the longest unused."""
    able = [e for e in entries if may_go(e) and not (idle_only and e.leases)]
    return min(able, key=lambda entry: (entry.leases > 0, entry.last_used), default=None)


def staying_bytes(entries: Iterable[Entry]) -> int:
    """What no eviction gives back."""
    return sum(entry.held for entry in entries if entry.settings.pin)


def ttl_of(entry: Entry, default: float | None) -> float | None:
    """After how many idle seconds a model goes; None: never."""
    if entry.settings.pin:
        return None
    return default if entry.settings.ttl is None else entry.settings.ttl


def time_left(entry: Entry, default: float | None, now: float) -> float | None:
    """Seconds until an idle model goes, less than zero when it is overdue; None: not yet known."""
    ttl = ttl_of(entry, default)
    if entry.model is None or entry.leases or entry.leaving or ttl is None:
        return None
    return entry.last_used + ttl - now
