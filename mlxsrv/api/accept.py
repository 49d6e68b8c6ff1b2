"""What a client would rather have, by its `Accept` headers (RFC 9110, 12.5.1)."""

from __future__ import annotations

from collections.abc import Iterable


def prefers_json(headers: Iterable[str]) -> bool:
    """Whether JSON is named, and wanted more than a PNG picture; where it is named and pictures
    only come under a wildcard, equally is enough."""
    ranges = _ranges(headers)
    json, png = ranges.get("application/json", 0.0), ranges.get("image/png")
    if png is not None:
        return json > png
    return json > 0 and json >= max(ranges.get("image/*", 0.0), ranges.get("*/*", 0.0))


def _ranges(headers: Iterable[str]) -> dict[str, float]:
    """Media ranges and their weights; one whose weight is no number counts as 1."""
    found: dict[str, float] = {}
    for item in ",".join(headers).split(","):
        name, *parameters = (part.strip().lower() for part in item.split(";"))
        weights = [text.partition("=")[2] for text in parameters if text.startswith("q=")]
        found[name] = _weight(weights[-1]) if weights else 1.0
    return found


def _weight(text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        return 1.0
    return weight if 0 <= weight <= 1 else 1.0
