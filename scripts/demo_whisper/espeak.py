"""Speak with espeak-ng: a ctypes binding of the library that ``espeakng-loader`` brings.

The library keeps its state in globals and is not thread-safe: make one :class:`Espeak` in a
process and use it from one thread at a time.
"""

from __future__ import annotations

import ctypes as c
from dataclasses import dataclass

import espeakng_loader
import numpy as np
import numpy.typing as npt

# Names and values of espeak-ng's speak_lib.h.
_AUDIO_OUTPUT_SYNCHRONOUS = 2
_CHARS_UTF8 = 1
_POS_CHARACTER = 1
_PHONEMES_IPA = 2
_PARAMETER_RATE, _PARAMETER_PITCH = 1, 3
_EVENT_END, _EVENT_WORD = 0, 1


class _Event(c.Structure):
    _fields_ = (
        ("type", c.c_int),
        ("unique_identifier", c.c_uint),
        ("text_position", c.c_int),
        ("length", c.c_int),
        ("audio_position", c.c_int),
        ("sample", c.c_int),
        ("user_data", c.c_void_p),
        ("id", c.c_char * 8),
    )


_Callback = c.CFUNCTYPE(c.c_int, c.POINTER(c.c_short), c.c_int, c.POINTER(_Event))


@dataclass(frozen=True, slots=True)
class Word:
    """Where a word begins: its character in the text, and seconds from the audio's start."""

    character: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Spoken:
    """What was said: mono 16-bit samples at ``rate`` per second, and where the words begin."""

    samples: npt.NDArray[np.int16]
    rate: int
    words: tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class Voice:
    """A voice of espeak-ng (``en-us``, or with a variant ``en-us+f3``) and how it speaks.

    ``rate`` is in words per minute, ``pitch`` from 0 to 99.
    """

    name: str
    rate: int = 175
    pitch: int = 50


class Espeak:
    """The loaded library; raises ``RuntimeError`` where it does not start."""

    def __init__(self) -> None:
        self._library = c.CDLL(espeakng_loader.get_library_path())
        self._library.espeak_TextToPhonemes.restype = c.c_char_p
        data = espeakng_loader.get_data_path().encode()
        self._rate = int(self._library.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, data, 0))
        if self._rate <= 0:
            raise RuntimeError(f"espeak-ng does not start (error {self._rate})")
        self._parts: list[npt.NDArray[np.int16]] = []
        self._words: list[Word] = []
        self._callback = _Callback(self._receive)  # kept, or it would be collected under espeak
        self._library.espeak_SetSynthCallback(self._callback)

    def _receive(
        self, samples: c._Pointer[c.c_short], count: int, events: c._Pointer[_Event]
    ) -> int:
        if samples and count > 0:
            self._parts.append(np.ctypeslib.as_array(samples, (count,)).copy())
        index = 0
        while events and events[index].type != _EVENT_END:
            if events[index].type == _EVENT_WORD:
                at = events[index].audio_position / 1000.0
                self._words.append(Word(events[index].text_position - 1, at))
            index += 1
        return 0

    def _select(self, voice: Voice) -> None:
        if self._library.espeak_SetVoiceByName(voice.name.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {voice.name!r}")
        self._library.espeak_SetParameter(_PARAMETER_RATE, voice.rate, 0)
        self._library.espeak_SetParameter(_PARAMETER_PITCH, voice.pitch, 0)

    def say(self, text: str, voice: Voice) -> Spoken:
        """Speak ``text``; raises ``ValueError`` for an unknown voice."""
        self._select(voice)
        self._parts.clear()
        self._words.clear()
        raw = text.encode()
        size = c.c_size_t(len(raw) + 1)
        self._library.espeak_Synth(raw, size, 0, _POS_CHARACTER, 0, _CHARS_UTF8, None, None)
        empty = np.zeros(0, np.int16)
        return Spoken(np.concatenate([empty, *self._parts]), self._rate, tuple(self._words))

    def ipa(self, text: str, voice: Voice) -> str:
        """Write ``text`` in the International Phonetic Alphabet, clauses apart by spaces."""
        self._select(voice)
        rest = c.c_char_p(text.encode())
        place = c.pointer(rest)
        clauses: list[str] = []
        while rest.value:
            said = self._library.espeak_TextToPhonemes(place, _CHARS_UTF8, _PHONEMES_IPA)
            clauses.append(said.decode())
        return " ".join(clauses)
