"""From an entry to what the engines are asked to load."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from mlxsrv.core.kinds import TEXT_KINDS, Kind
from mlxsrv.core.meters import (
    EncoderMeters,
    ImageMeters,
    SpeechMeters,
    TextMeters,
    TranscriptionMeters,
)
from mlxsrv.engines.load import Wanted
from mlxsrv.registry.entry import Entry, LoadProgress

_ENCODERS = frozenset({Kind.EMBEDDING, Kind.RERANK})


@dataclass(slots=True)
class Meters:
    """What every model ever served has counted, by its name: totals must never fall, so they
    outlive the models."""

    loads: Counter[str] = field(default_factory=Counter)
    text: dict[str, TextMeters] = field(default_factory=dict)
    encoder: dict[str, EncoderMeters] = field(default_factory=dict)
    transcription: dict[str, TranscriptionMeters] = field(default_factory=dict)
    speech: dict[str, SpeechMeters] = field(default_factory=dict)
    image: dict[str, ImageMeters] = field(default_factory=dict)

    def of_text(self, name: str) -> TextMeters:
        return self.text.setdefault(name, TextMeters())

    def of_encoder(self, name: str) -> EncoderMeters:
        return self.encoder.setdefault(name, EncoderMeters())

    def of_transcription(self, name: str) -> TranscriptionMeters:
        return self.transcription.setdefault(name, TranscriptionMeters())

    def of_speech(self, name: str) -> SpeechMeters:
        return self.speech.setdefault(name, SpeechMeters())

    def of_image(self, name: str) -> ImageMeters:
        return self.image.setdefault(name, ImageMeters())


def wanted(entry: Entry, meters: Meters, on_short: Callable[[int], None]) -> Wanted:
    """What to load for an entry whose checkpoint and footprint are known."""
    found, footprint = entry.checkpoint, entry.held_as
    assert found is not None and footprint is not None
    kind, name = entry.kind, entry.name

    def progress(done: int) -> None:
        entry.report(LoadProgress("load", min(done, footprint.weights), footprint.weights))

    return Wanted(
        name=name,
        kind=kind,
        found=found,
        own=entry.settings,
        footprint=footprint,
        staged=entry.staged,
        adapter=entry.own_adapter,
        text_meters=meters.of_text(name) if kind in TEXT_KINDS else None,
        encoder_meters=meters.of_encoder(name) if kind in _ENCODERS else None,
        transcription_meters=meters.of_transcription(name) if kind is Kind.STT else None,
        speech_meters=meters.of_speech(name) if kind is Kind.TTS else None,
        image_meters=meters.of_image(name) if kind is Kind.IMAGE else None,
        on_progress=progress,
        on_short=on_short,
    )
