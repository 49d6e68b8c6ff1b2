from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxsrv.bench.answer import answer_of, events
from mlxsrv.bench.http1 import BrokenAnswer, Piece, read_answer

SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(**body: Any) -> bytes:
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def delta(text: str, finish: str | None = None) -> bytes:
    return event(choices=[{"index": 0, "delta": {"content": text}, "finish_reason": finish}])


def timed(*parts: bytes) -> list[Piece]:
    return [(float(second), part) for second, part in enumerate(parts)]


def test_a_stream_counts_tokens_and_notes_their_times() -> None:
    role = event(choices=[{"index": 0, "delta": {"role": "assistant", "content": ""}}])
    usage = {"completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 7}}
    answer = answer_of(
        -1.0,
        timed(
            SSE + chunk(role),
            chunk(b": waiting\n\n"),
            chunk(delta(" one")),
            chunk(delta(" two") + delta(" three")),
            chunk(delta("", "length")),
            chunk(event(choices=[], usage=usage)),
            chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n",
        ),
    )
    assert answer.error is None
    assert answer.text == " one two three"
    assert answer.arrivals == (2.0, 3.0, 3.0)
    assert (answer.tokens, answer.cached) == (3, 7)
    assert answer.first == 3.0
    assert answer.gaps == [1.0, 0.0]
    assert answer.ended == 6.0


def test_without_usage_the_events_with_text_are_counted() -> None:
    answer = answer_of(0.0, timed(SSE + chunk(delta("a")), chunk(delta("b", "stop"))))
    assert (answer.tokens, answer.error) == (2, None)


def test_completions_stream_their_text_elsewhere() -> None:
    piece = event(choices=[{"index": 0, "text": "word", "finish_reason": "length"}])
    assert answer_of(0.0, timed(SSE + chunk(piece))).text == "word"


@pytest.mark.parametrize("path", ["message", "text"])
def test_a_whole_answer(path: str) -> None:
    choice = {"message": {"content": "hi"}} if path == "message" else {"text": "hi"}
    body = json.dumps({"choices": [choice], "usage": {"completion_tokens": 9}}).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body)
    answer = answer_of(0.5, timed(head, body))
    assert (answer.text, answer.tokens, answer.first, answer.error) == ("hi", 9, 0.5, None)


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        ([], "the connection ended before an answer"),
        ([b"HTTP/1.1 503 No\r\n\r\nbusy"], "HTTP 503: busy"),
        ([b"SSH-2.0 hello\r\n\r\n"], "not an HTTP answer"),
        ([SSE + chunk(delta("a"))], "the stream broke off"),
        ([SSE + chunk(event(error={"message": "boom"}))], "error in the stream"),
        ([SSE + chunk(b"data: {\n\n")], "not an event"),
        ([SSE + b"xyz\r\n"], "not the size of a chunk"),
        ([b"HTTP/1.1 200 OK\r\n\r\n<html>"], "not an answer"),
    ],
)
def test_what_is_no_good_answer_says_why(pieces: list[bytes], said: str) -> None:
    error = answer_of(0.0, timed(*pieces)).error
    assert error is not None
    assert error.startswith(said)


def test_hanging_up_oneself_is_no_error() -> None:
    assert answer_of(0.0, timed(SSE + chunk(delta("a"))), left=True).error is None
    assert answer_of(0.0, [], left=True).error is None


@given(
    st.lists(st.text(min_size=1), min_size=1, max_size=6),
    st.lists(st.integers(1, 40), max_size=30),
)
def test_how_the_bytes_are_cut_does_not_matter(texts: list[str], sizes: list[int]) -> None:
    parts = [delta(text) for text in texts] + [delta("", "stop")]
    raw = SSE + b"".join(map(chunk, parts)) + b"0\r\n\r\n"
    pieces, place = [], 0
    for size in sizes:
        pieces.append(raw[place : place + size])
        place += size
    answer = answer_of(0.0, timed(*[p for p in pieces if p], raw[place:] or b""))
    assert (answer.text, answer.tokens, answer.error) == ("".join(texts), len(texts), None)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_answer_or_broken(data: bytes) -> None:
    with contextlib.suppress(BrokenAnswer):
        read_answer(timed(data))
    answer_of(0.0, timed(b"HTTP/1.1 200 OK\r\n\r\n" + data))
    assert next(iter(events(timed(b"data: x\n" + data)))) == (0.0, b"x")


def test_a_short_body_is_not_complete() -> None:
    assert not read_answer(timed(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc")).complete
