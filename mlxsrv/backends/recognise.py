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
        "deberta",
        "deberta-v2",
        "distilbert",
        "electra",
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
    config: Mapping[str, Any], *, sentence_transformer: bool, has_chat_template: bool
) -> Kind:
    """The kind of a checkpoint.

    The model type decides first, then the head that its architecture names. `modules.json`
    (sentence-transformers) makes an embedding model of any architecture.
    """
    model_type = str(config.get("model_type") or "")
    heads = architectures(config)
    if model_type in _STT or _ends(heads, _STT_HEADS):
        return Kind.STT
    if model_type in _TTS or _ends(heads, _TTS_HEADS):
        return Kind.TTS
    if _ends(heads, ("ForSequenceClassification",)):
        return Kind.RERANK
    if sentence_transformer or _is_encoder(model_type, heads):
        return Kind.EMBEDDING
    if isinstance(config.get("vision_config"), dict):
        return Kind.VISION
    return Kind.CHAT if has_chat_template else Kind.COMPLETION


def architectures(config: Mapping[str, Any]) -> tuple[str, ...]:
    found = config.get("architectures")
    return tuple(str(name) for name in found) if isinstance(found, list) else ()


def _is_encoder(model_type: str, heads: tuple[str, ...]) -> bool:
    generates = _ends(heads, ("ForCausalLM", "LMHeadModel"))
    return model_type in _ENCODERS and not generates


def _ends(heads: tuple[str, ...], endings: tuple[str, ...]) -> bool:
    return any(head.endswith(endings) for head in heads)
