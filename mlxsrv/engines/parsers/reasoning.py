"""Splits what a model thinks from what it answers. Pure."""

from __future__ import annotations

from mlxsrv.engines.parsers.stop import StopMatcher


class ReasoningSplitter:
    """Sends text between the tags to `reasoning` and the rest to `content`.

    Only a block at the very start is reasoning: later tags are the answer's own text. White
    space around the tags belongs to neither side.
    """

    def __init__(self, tags: tuple[str, str], *, thinking: bool) -> None:
        self._open, self._close = tags
        self.thinking = thinking
        self._settled = False
        self._lead = "" if not thinking else None
        self._end = StopMatcher([self._close])
        self._raw = ""
        self._trim = True

    def feed(self, text: str) -> tuple[str, str]:
        """(content, reasoning) that are certain with this piece."""
        if self._settled:
            return self._content(text), ""
        if self._lead is not None:
            return self._opening(text)
        return self._think(text)

    def flush(self) -> tuple[str, str]:
        """What was held back, at the end of the text."""
        if self._settled:
            return "", ""
        if self._lead is not None:
            lead, self._lead, self._settled = self._lead, None, True
            return lead, ""
        return "", self._trimmed(self._end.flush())

    def _opening(self, text: str) -> tuple[str, str]:
        assert self._lead is not None
        self._lead += text
        start = self._lead.lstrip()
        if self._open.startswith(start):
            return "", ""
        lead, self._lead = self._lead, None
        if start.startswith(self._open):
            self.thinking = True
            return self._think(start[len(self._open) :])
        self._settled, self._trim = True, False
        return lead, ""

    def _think(self, text: str) -> tuple[str, str]:
        self._raw += text
        shown = self._trimmed(self._end.feed(text))
        if not self._end.matched:
            return "", shown
        rest = self._raw[self._raw.index(self._close) + len(self._close) :]
        self._raw = ""
        self.thinking, self._settled, self._trim = False, True, True
        return self._content(rest), shown

    def _content(self, text: str) -> str:
        return self._trimmed(text)

    def _trimmed(self, text: str) -> str:
        """Drops the white space that follows a tag."""
        if self._trim:
            text = text.lstrip()
            self._trim = not text
        return text
