"""What one request got, with the time of every token; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import orjson

from mlxsrv.bench.http1 import BrokenAnswer, HttpAnswer, Piece, read_answer

OK = 200


@dataclass(frozen=True, slots=True)
class Answer:
    """Times in seconds, all of one clock.

    `arrivals` has the time of each event that carried text; `tokens` is what the server says
    it generated, or the number of those events. `error` says why it is not a good answer.
    """

    sent: float
    ended: float
    arrivals: tuple[float, ...] = ()
    tokens: int = 0
    cached: int = 0
    text: str = ""
    status: int = OK
    error: str | None = None

    @property
    def first(self) -> float:
        """Seconds to the first token; raises IndexError without one."""
        return self.arrivals[0] - self.sent

    @property
    def gaps(self) -> list[float]:
        """Seconds between one token and the next."""
        return [after - before for before, after in pairwise(self.arrivals)]


@dataclass(slots=True)
class _Stream:
    """What the events of one stream add up to."""

    arrivals: list[float]
    text: list[str]
    tokens: int | None = None
    cached: int = 0
    finished: bool = False
    error: str | None = None


def answer_of(sent: float, pieces: list[Piece], *, left: bool = False) -> Answer:
    """The answer that some pieces of bytes are; `left` when we hung up ourselves."""
    ended = pieces[-1][0] if pieces else sent
    try:
        http = read_answer(pieces)
    except BrokenAnswer as error:
        return Answer(sent, ended, status=0, error=None if left else error.message)
    if http.status != OK:
        return Answer(sent, ended, status=http.status, error=_problem(http))
    if http.headers.get("content-type", "").startswith("text/event-stream"):
        return _streamed(sent, ended, http, left)
    return _whole(sent, ended, http, left)


def _problem(http: HttpAnswer) -> str:
    return f"HTTP {http.status}: {http.content[:200].decode('utf-8', 'replace')}"


def _whole(sent: float, ended: float, http: HttpAnswer, left: bool) -> Answer:
    try:
        body = orjson.loads(http.content)
        text = "".join(_text(choice) for choice in body["choices"])
        tokens, cached = _usage(body.get("usage") or {})
    except (ValueError, KeyError, TypeError, AttributeError):
        problem = None if left else f"not an answer: {http.content[:100]!r}"
        return Answer(sent, ended, error=problem)
    return Answer(sent, ended, (ended,), tokens or 0, cached, text)


def _streamed(sent: float, ended: float, http: HttpAnswer, left: bool) -> Answer:
    stream = _Stream([], [])
    for when, data in events(http.body):
        try:
            _take(stream, when, orjson.loads(data))
        except (ValueError, KeyError, TypeError, AttributeError):
            stream.error = f"not an event: {data[:100]!r}"
    if not left and stream.error is None and not stream.finished:
        stream.error = "the stream broke off"
    tokens = len(stream.arrivals) if stream.tokens is None else stream.tokens
    text = "".join(stream.text)
    times = tuple(stream.arrivals)
    return Answer(sent, ended, times, tokens, stream.cached, text, error=stream.error)


def events(body: Iterable[Piece]) -> Iterator[Piece]:
    """The `data:` of server-sent events, but for `[DONE]`; comments are passed over."""
    waiting = b""
    for when, piece in body:
        *lines, waiting = (waiting + piece).split(b"\n")
        for line in lines:
            if not line.startswith(b"data:"):
                continue
            data = line[5:].strip()
            if data != b"[DONE]":
                yield when, data


def _take(stream: _Stream, when: float, event: dict[str, Any]) -> None:
    if "error" in event:
        stream.error = f"error in the stream: {event['error']}"
        return
    tokens, cached = _usage(event.get("usage") or {})
    stream.tokens = stream.tokens if tokens is None else tokens
    stream.cached = cached or stream.cached
    for choice in event["choices"]:
        text = _text(choice)
        if text:
            stream.arrivals.append(when)
            stream.text.append(text)
        stream.finished = stream.finished or choice.get("finish_reason") is not None


def _text(choice: dict[str, Any]) -> str:
    """Text of a choice in any of the four forms: chat or completion, whole or a delta."""
    message = choice.get("delta") or choice.get("message") or choice
    return message.get("content") or message.get("text") or ""


def _usage(usage: dict[str, Any]) -> tuple[int | None, int]:
    """(generated tokens, prompt tokens that came out of a cache)."""
    details = usage.get("prompt_tokens_details") or {}
    return usage.get("completion_tokens"), details.get("cached_tokens") or 0
