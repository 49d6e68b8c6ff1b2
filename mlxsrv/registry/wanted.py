"""From an entry to what the engines are asked to load."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from mlxsrv.core.kinds import TEXT_KINDS
from mlxsrv.core.meters import EncoderMeters, TextMeters
from mlxsrv.engines.load import Wanted
from mlxsrv.registry.entry import Entry, LoadProgress


@dataclass(slots=True)
class Meters:
    """What every model ever served has counted, by its name: totals must never fall, so they
    outlive the models."""

    loads: Counter[str] = field(default_factory=Counter)
    text: dict[str, TextMeters] = field(default_factory=dict)
    encoder: dict[str, EncoderMeters] = field(default_factory=dict)

    def of_text(self, name: str) -> TextMeters:
        return self.text.setdefault(name, TextMeters())

    def of_encoder(self, name: str) -> EncoderMeters:
        return self.encoder.setdefault(name, EncoderMeters())


def wanted(entry: Entry, meters: Meters, on_short: Callable[[int], None]) -> Wanted:
    """What to load for an entry whose checkpoint and footprint are known."""
    found, footprint = entry.checkpoint, entry.footprint
    assert found is not None and footprint is not None
    is_text = entry.kind in TEXT_KINDS

    def progress(done: int) -> None:
        entry.report(LoadProgress("load", min(done, footprint.weights), footprint.weights))

    return Wanted(
        name=entry.name,
        kind=entry.kind,
        found=found,
        own=entry.settings,
        footprint=footprint,
        adapter=entry.own_adapter,
        text_meters=meters.of_text(entry.name) if is_text else None,
        encoder_meters=None if is_text else meters.of_encoder(entry.name),
        on_progress=progress,
        on_short=on_short,
    )
