"""From token ids to text, one token at a time, never splitting a character. Pure."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Collection


class Detokenizer:
    """Decodes one sequence. Bytes that end inside a character wait for the rest of it.

    `piece` gives a token's bytes; tokens in `hidden` (end of text and the like) have no text.
    With `strip_first_space`, one space at the very start is dropped, as tokenizers of the
    SentencePiece kind want it at the start of a text.
    """

    def __init__(
        self,
        piece: Callable[[int], bytes],
        hidden: Collection[int] = frozenset(),
        *,
        strip_first_space: bool = False,
    ) -> None:
        self._piece = piece
        self._hidden = hidden
        self._strip = strip_first_space
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, token: int) -> str:
        """The text that is complete with this token."""
        if token in self._hidden:
            return ""
        return self._stripped(self._utf8.decode(self._piece(token)))

    def flush(self) -> str:
        """What is left at the end: a character that was never completed, as U+FFFD."""
        return self._stripped(self._utf8.decode(b"", final=True))

    def _stripped(self, text: str) -> str:
        if self._strip and text:
            self._strip = False
            return text.removeprefix(" ")
        return text


class WindowDetokenizer:
    """The same for tokenizers whose tokens have no bytes of their own (WordPiece, …).

    Decodes a short window before and after each token and emits the difference.
    """

    def __init__(
        self, decode: Callable[[list[int]], str], hidden: Collection[int] = frozenset()
    ) -> None:
        self._decode = decode
        self._hidden = hidden
        self._ids: list[int] = []
        self._shown = 0

    def feed(self, token: int) -> str:
        if token in self._hidden:
            return ""
        before = self._decode(self._ids[: self._shown])
        self._ids.append(token)
        text = self._decode(self._ids)
        if text.endswith("\ufffd"):
            return ""
        # Keep only what the next difference needs as its left context.
        self._ids = self._ids[self._shown :]
        self._shown = len(self._ids)
        return text[len(before) :]

    def flush(self) -> str:
        before = self._decode(self._ids[: self._shown])
        return self._decode(self._ids)[len(before) :]
