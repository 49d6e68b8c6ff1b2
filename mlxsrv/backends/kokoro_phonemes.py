"""From the phonetic alphabet to the letters that Kokoro reads, where one stands for a diphthong.

The set is that of hexgrad's misaki, with which Kokoro was trained. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from mlxsrv.backends.phonemes import TIE

LANGUAGES = {
    "a": "en-us",
    "b": "en-gb",
    "e": "es",
    "f": "fr-fr",
    "h": "hi",
    "i": "it",
    "p": "pt-br",
}
"""By the first letter of a voice's name. Japanese and Chinese voices read scripts of their own,
for which espeak-ng's phonemes are no help."""

_SYLLABIC = "\u0329"
_NASAL = "\u0303"

_SHARED = {"a^ɪ": "I", "a^ʊ": "W", "e^ɪ": "A", "ɔ^ɪ": "Y", "d^ʒ": "ʤ", "t^ʃ": "ʧ"}
_ABROAD = {"d^z": "ʣ", "t^s": "ʦ", "s^s": "S", "o^ʊ": "O", "ə^ʊ": "Q", "-": ""}
_AMERICAN = {"o^ʊ": "O", "ɜːɹ": "ɜɹ", "ɜː": "ɜɹ", "ɪə": "iə", "ː": ""}
_BRITISH = {"e^ə": "ɛː", "iə": "ɪə", "ə^ʊ": "Q"}
_ENGLISH = {
    f"ʔˌn{_SYLLABIC}": "tn",
    f"ʔn{_SYLLABIC}": "tn",
    "ə^l": "ᵊl",
    "ʲo": "jo",
    "ʲə": "jə",
    "ʲ": "",
    "e": "A",
    "o": "ɔ",
    "r": "ɹ",
    "x": "k",
    "ç": "k",
    "ɐ": "ə",
    "ɚ": "əɹ",
    "ɬ": "l",
    "ɾ": "T",
    "ʔ": "t",
    _NASAL: "",
}


def kokoro_letters(ipa: str, language: str) -> str:
    """`ipa` has TIE between the letters of one sound; `language` is one of LANGUAGES."""
    if not language.startswith("en"):
        return _replaced(ipa, _SHARED | _ABROAD).replace(TIE, "")
    own = _BRITISH if language == "en-gb" else _AMERICAN
    letters = _replaced(_replaced(ipa, _SHARED | own), _ENGLISH)
    letters = re.sub(rf"(\S){_SYLLABIC}", r"ᵊ\1", letters)
    return letters.replace(TIE, "").replace(_SYLLABIC, "")


def _replaced(text: str, table: Mapping[str, str]) -> str:
    """All at once, the longest first."""
    longest = sorted(table, key=len, reverse=True)
    return re.sub("|".join(map(re.escape, longest)), lambda found: table[found[0]], text)


def cut(letters: str, most: int) -> list[str]:
    """Pieces of at most `most` letters, between words where that can be."""
    found = []
    while len(letters) > most:
        end = letters.rfind(" ", 1, most + 1)
        end = most if end < 0 else end
        found.append(letters[:end])
        letters = letters[end:].lstrip()
    return [*found, letters] if letters else found
