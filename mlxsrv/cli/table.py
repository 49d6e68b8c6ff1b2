"""Plain aligned columns; sizes and times as people read them."""

from __future__ import annotations

from collections.abc import Sequence

KILO = 1000
MINUTE = 60
HOUR = 60 * MINUTE


def show(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints rows under their head, each column as wide as it needs."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    for row in (head, *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def size(count: float) -> str:
    """Bytes as `1.2 GB` (decimal, as disks and the hub count)."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < KILO:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= KILO
    return f"{count:.1f} TB"


def duration(seconds: float) -> str:
    """Seconds as `12 s`, `5 min`, `3 h`."""
    if seconds < 2 * MINUTE:
        return f"{seconds:.0f} s"
    if seconds < 2 * HOUR:
        return f"{seconds / MINUTE:.0f} min"
    return f"{seconds / HOUR:.0f} h"
