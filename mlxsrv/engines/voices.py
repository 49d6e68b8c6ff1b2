"""Which of a model's voices speaks. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from mlxsrv.core.speech import Voice

_OPENAI = "alloy ash ballad cedar coral echo fable marin nova onyx sage shimmer verse"
OPENAI = tuple(_OPENAI.split())


def choose_voice(wanted: str | None, voices: Sequence[Voice], default: str) -> str:
    """The id of the voice that is wanted.

    Upper case counts for nothing. A name of OpenAI's is the voice that bears it (Kokoro's
    `af_alloy`), else one of those that speak the default voice's language, always the same.
    Any other name means the default.
    """
    name = (wanted or default).casefold()
    own = {voice.id.casefold(): voice.id for voice in voices}
    if name in own:
        return own[name]
    if name not in OPENAI:
        return default
    namesake = next((id_ for low, id_ in own.items() if low.endswith(f"_{name}")), None)
    return namesake or _stand_in(name, voices, default)


def _stand_in(name: str, voices: Sequence[Voice], default: str) -> str:
    language = next((voice.language for voice in voices if voice.id == default), None)
    able = [voice.id for voice in voices if voice.language == language] or [default]
    return able[OPENAI.index(name) % len(able)]
