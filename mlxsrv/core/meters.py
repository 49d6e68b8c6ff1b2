"""What is counted while serving: plain numbers, read when somebody scrapes them.

Each field has one writer (the device thread for engines and device, the event loop for
requests), so nothing here takes a lock; a reader may be one step behind.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from mlxsrv.core.histogram import Histogram

FIRST_TOKEN_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
INTER_TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2.5)
SLICE_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)


@dataclass(slots=True)
class TextMeters:
    """One text model's counts. The counters only grow; `queue_length` and `running` are now."""

    prompt_tokens: int = 0
    generated_tokens: int = 0
    cached_tokens: int = 0
    queue_length: int = 0
    running: int = 0
    time_to_first_token: Histogram = field(default_factory=lambda: Histogram(FIRST_TOKEN_SECONDS))
    inter_token: Histogram = field(default_factory=lambda: Histogram(INTER_TOKEN_SECONDS))


@dataclass(slots=True)
class EncoderMeters:
    """One embedding or rerank model's counts. The counters only grow; `queue_length` is now.

    `padding_tokens` were computed beside `tokens` only because rows of a batch have one length.
    """

    rows: int = 0
    tokens: int = 0
    padding_tokens: int = 0
    batches: int = 0
    queue_length: int = 0


@dataclass(slots=True)
class TranscriptionMeters:
    """One Whisper model's counts. The counters only grow; `queue_length` and `running` are now.

    `seconds` are those of the recordings, not of the clock.
    """

    seconds: float = 0.0
    segments: int = 0
    generated_tokens: int = 0
    queue_length: int = 0
    running: int = 0


@dataclass(slots=True)
class SpeechMeters:
    """One speaking model's counts. `seconds` of sound only grow; the others are now."""

    seconds: float = 0.0
    queue_length: int = 0
    running: int = 0


@dataclass(slots=True)
class ImageMeters:
    """One image model's counts. `pictures` that were finished and `steps` done only grow; the
    others are now."""

    pictures: int = 0
    steps: int = 0
    queue_length: int = 0
    running: int = 0


@dataclass(slots=True)
class DeviceMeters:
    """Turns of the device thread, in seconds by kind of work, and work that waits for one."""

    slices: dict[str, Histogram] = field(default_factory=dict)
    queue_length: int = 0

    def observe(self, kind: str, seconds: float) -> None:
        histogram = self.slices.get(kind)
        if histogram is None:
            histogram = self.slices[kind] = Histogram(SLICE_SECONDS)
        histogram.observe(seconds)


@dataclass(slots=True)
class RequestMeters:
    """Finished requests by route template and status."""

    finished: Counter[tuple[str, int]] = field(default_factory=Counter)
