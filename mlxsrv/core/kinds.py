"""What a model is for."""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """The `type` of a model in the configuration and in `/v1/models`."""

    CHAT = "chat"
    COMPLETION = "completion"
    VISION = "vision"
    EMBEDDING = "embedding"
    RERANK = "rerank"
    STT = "stt"
    TTS = "tts"
    IMAGE = "image"


TEXT_KINDS = frozenset({Kind.CHAT, Kind.COMPLETION, Kind.VISION})
"""Kinds that answer chat and completion requests."""

SERVED_KINDS = TEXT_KINDS | {
    Kind.EMBEDDING,
    Kind.RERANK,
    Kind.STT,
    Kind.TTS,
    Kind.IMAGE,
}
"""Kinds that this version has routes for; vision models answer text."""
