"""What a checkpoint is for, read from its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlxsrv.core.kinds import Kind

_STT = frozenset({"whisper", "moonshine", "parakeet", "parakeet_ctc", "speech_to_text"})
_TTS = frozenset(
    {"vits", "kokoro", "vibevoice", "vibevoice_streaming", "bark", "speecht5", "csm", "dia"}
)
_ENCODERS = frozenset(
    {
        "albert",
        "bert",
        "camembert",
        "deberta",
        "deberta-v2",
        "distilbert",
        "electra",
        "eurobert",
        "gte",
        "modernbert",
        "mpnet",
        "new",
        "nomic_bert",
        "roberta",
        "xlm-roberta",
    }
)
_STT_HEADS = ("ForCTC", "ForSpeechSeq2Seq")
_TTS_HEADS = ("ForTextToSpeech", "ForTextToWaveform")


def kind_of(
    config: Mapping[str, Any],
    *,
    name: str,
    sentence_transformer: str | None,
    has_chat_template: bool,
) -> Kind:
    """The kind of a checkpoint.

    The model type decides first, then the head that its architecture names, then the class
    that sentence-transformers loads it with (`sentence_transformer`; None without
    `modules.json`). Language models that were trained to rerank or to embed look like any
    other, so there the model's name decides.
    """
    model_type = model_type_of(config)
    heads = architectures(config)
    # The first conversions to mlx-whisper say their sizes and nothing else.
    if model_type in _STT or _ends(heads, _STT_HEADS) or "n_audio_state" in config:
        return Kind.STT
    if model_type in _TTS or _ends(heads, _TTS_HEADS):
        return Kind.TTS
    if _ends(heads, ("ForSequenceClassification",)):
        return Kind.RERANK
    generates = _ends(heads, ("ForCausalLM", "LMHeadModel"))
    if sentence_transformer == "CrossEncoder" or (generates and "reranker" in name.lower()):
        return Kind.RERANK
    if sentence_transformer or (model_type in _ENCODERS and not generates):
        return Kind.EMBEDDING
    if isinstance(config.get("vision_config"), dict):
        return Kind.VISION
    # Without the head that generates, all that is left to do is to embed.
    if "embedding" in name.lower() if generates else _ends(heads, ("Model",)):
        return Kind.EMBEDDING
    return Kind.CHAT if has_chat_template else Kind.COMPLETION


def model_type_of(config: Mapping[str, Any]) -> str:
    # Kokoro's first conversions say their sizes and nothing else.
    return str(config.get("model_type") or ("kokoro" if "istftnet" in config else ""))


def architectures(config: Mapping[str, Any]) -> tuple[str, ...]:
    found = config.get("architectures")
    return tuple(str(name) for name in found) if isinstance(found, list) else ()


def _ends(heads: tuple[str, ...], endings: tuple[str, ...]) -> bool:
    return any(head.endswith(endings) for head in heads)
