"""espeak-ng, which the package espeakng-loader brings with its data (GPL-3, an optional extra).

The library is one per process, and statics that no call resets make what it says depend on
what it said before. So it is loaded for a piece of text and unloaded after it (3 ms): nothing
is shared, and the same text always gives the same sound.
"""

from __future__ import annotations

import ctypes
import re
from _ctypes import dlclose
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlxsrv.backends.builtin import INSTALL_ESPEAK, espeak_folder
from mlxsrv.core.errors import InvalidRequest, LoadError

SAMPLE_RATE = 22_050
SLOWEST = 80
"""Words a minute below which espeak-ng does not go."""

_ONE_AT_A_TIME = Lock()

# The names that speak_lib.h gives these numbers.
_AUDIO_OUTPUT_SYNCHRONOUS = 2
_INITIALIZE_DONT_EXIT = 0x8000
_RATE = 1
_CHARS_UTF8 = 1
_ENDPAUSE = 0x1000  # without markup, so `<` and `[[` are characters like any other
_PHONEMES_IPA = 2
_TIED = 0x80

_SWITCH = re.compile(r"\([a-z-]+\)")
"""Stands before a word of another language, as in (fr)."""

_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


class _Voice(ctypes.Structure):
    """`espeak_VOICE`. Before each language stands a byte that gives its priority."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_char_p),
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("reserved", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    )


def voice_files() -> dict[str, str]:
    """Language tag → the voice's file. Raises LoadError."""
    with _opened() as library:
        library.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_Voice))
        listed = library.espeak_ListVoices(None)
        found: dict[str, str] = {}
        for voice in _until_null(listed):
            found.setdefault(voice.languages[1:].decode().lower(), voice.identifier.decode())
        return found


def _until_null(pointers: Any) -> Iterator[_Voice]:
    """What an array of pointers, ended by a null pointer, points to."""
    at = 0
    while pointers[at]:
        yield pointers[at].contents
        at += 1


def speak(text: str, file: str, *, words_per_minute: int, seed: int = 0) -> NDArray[np.int16]:
    """Samples of SAMPLE_RATE, with the pause that the end of `text` asks for.

    `file` is a voice's, with `+` and a variant's name after it or not. Control characters
    would be commands, so there may be none. Raises InvalidRequest, LoadError.
    """
    blocks: list[NDArray[np.int16]] = []

    def collect(samples: Any, count: int, events: Any) -> int:
        if samples and count:
            blocks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    callback = _Callback(collect)
    with _opened() as library:
        _choose(library, file)
        library.espeak_SetSynthCallback(callback)
        library.espeak_SetParameter(_RATE, words_per_minute, 0)
        library.espeak_ng_SetRandSeed(ctypes.c_long(seed % 2**31))
        said = text.encode()
        library.espeak_Synth(
            said, ctypes.c_size_t(len(said) + 1), 0, 1, 0, _CHARS_UTF8 | _ENDPAUSE, None, None
        )
    return np.concatenate(blocks) if blocks else np.zeros(0, np.int16)


def to_ipa(texts: Sequence[str], file: str, *, tie: str) -> list[str]:
    """The phonemes of each text, in IPA; `tie` joins the letters of one phoneme.

    Punctuation is lost. Raises InvalidRequest, LoadError.
    """
    mode = _PHONEMES_IPA | _TIED | ord(tie) << 8
    with _opened() as library:
        _choose(library, file)
        library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        return [_ipa(library, text, mode) for text in texts]


def _ipa(library: ctypes.CDLL, text: str, mode: int) -> str:
    rest = ctypes.c_char_p(text.encode())
    clauses = []
    while rest.value:
        found = library.espeak_TextToPhonemes(ctypes.byref(rest), _CHARS_UTF8, mode)
        clauses.append(_SWITCH.sub("", found.decode()).strip())
    return " ".join(filter(None, clauses))


def _choose(library: ctypes.CDLL, file: str) -> None:
    if library.espeak_SetVoiceByName(file.encode()) != 0:
        raise InvalidRequest(f"voice: espeak-ng has no {file}", param="voice")


@contextmanager
def _opened() -> Iterator[ctypes.CDLL]:
    folder = espeak_folder()
    if folder is None:
        raise LoadError(f"espeak-ng is not installed: {INSTALL_ESPEAK}")
    import espeakng_loader

    with _ONE_AT_A_TIME:
        library = ctypes.CDLL(espeakng_loader.get_library_path())
        try:
            rate = library.espeak_Initialize(
                _AUDIO_OUTPUT_SYNCHRONOUS, 0, str(folder).encode(), _INITIALIZE_DONT_EXIT
            )
            if rate != SAMPLE_RATE:
                raise LoadError(f"espeak-ng can't read its data in {folder}")
            yield library
            library.espeak_Terminate()
        finally:
            dlclose(library._handle)
