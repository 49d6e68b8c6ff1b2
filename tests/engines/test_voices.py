"""Which voice speaks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxsrv.core.speech import Voice
from mlxsrv.engines.voices import OPENAI, choose_voice

KOKORO = [
    *(Voice(name, "en-us") for name in ("af_heart", "af_alloy", "am_echo", "am_adam")),
    *(Voice(name, "en-gb") for name in ("bf_emma", "bm_fable")),
    Voice("ff_siwis", "fr-fr"),
]


@pytest.mark.parametrize(
    ("wanted", "spoke"),
    [
        (None, "af_heart"),
        ("", "af_heart"),
        ("bf_emma", "bf_emma"),
        ("BF_Emma", "bf_emma"),
        ("alloy", "af_alloy"),
        ("Fable", "bm_fable"),
        ("my-voice", "af_heart"),
        ("alloy2", "af_heart"),
    ],
)
def test_a_voice_is_found_by_its_own_name_or_openais(wanted: str | None, spoke: str) -> None:
    assert choose_voice(wanted, KOKORO, "af_heart") == spoke


def test_openais_names_are_different_voices_of_the_same_language() -> None:
    spoke = {name: choose_voice(name, KOKORO, "af_heart") for name in OPENAI}
    language = {voice.id: voice.language for voice in KOKORO}
    assert len(set(spoke.values())) == 5
    assert {language[id_] for name, id_ in spoke.items() if name != "fable"} == {"en-us"}
    many = [Voice(f"v{n}", "en") for n in range(20)]
    assert len({choose_voice(name, many, "v0") for name in OPENAI}) == len(OPENAI)


@given(st.text(), st.lists(st.text(min_size=1), min_size=1, unique=True))
def test_it_is_always_one_that_the_model_has(wanted: str, ids: list[str]) -> None:
    voices = [Voice(id_, "en") for id_ in ids]
    assert choose_voice(wanted, voices, ids[0]) in ids
