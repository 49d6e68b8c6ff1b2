"""Hostile requests, made from valid ones, and what has to hold of every answer."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
from hypothesis import strategies as st

MESSAGES = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": [{"type": "text", "text": "hello"}]},
    {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f"}}]},
    {"role": "tool", "content": "4", "tool_call_id": "call_1"},
]
GENERATION = {
    "model": "tiny",
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 5,
    "min_p": 0.1,
    "repetition_penalty": 1.1,
    "frequency_penalty": 0.5,
    "presence_penalty": -0.5,
    "logit_bias": {"17": 3},
    "seed": 7,
    "n": 2,
    "stop": ["the", "end"],
    "max_tokens": 4,
    "stream": True,
    "stream_options": {"include_usage": True},
}
CHAT = {
    **GENERATION,
    "messages": MESSAGES,
    "logprobs": True,
    "top_logprobs": 2,
    "chat_template_kwargs": {"enable_thinking": False},
    "reasoning_effort": "low",
    "response_format": {"type": "text"},
    "tools": [],
    "tool_choice": "none",
    "user": "me",
    "metadata": {},
}
COMPLETION = {**GENERATION, "prompt": ["hello", "world"], "logprobs": 2, "echo": True, "best_of": 2}
BODIES: dict[str, list[dict[str, Any]]] = {
    "/v1/chat/completions": [CHAT, {"messages": MESSAGES[:2], "max_tokens": 4}],
    "/api/v1/chat/completions": [{"messages": MESSAGES[:2], "max_tokens": 4, "stream": False}],
    "/v1/completions": [
        {**COMPLETION, "stream": False, "stream_options": None},
        {"prompt": [5, 6, 7], "max_tokens": 4, "stream": True},
        {"prompt": "hello", "suffix": "end", "max_tokens": 4},
    ],
    "/v1/tokenize": [{"input": "hello"}, {"messages": MESSAGES[:2], "return_token_strings": True}],
    "/v1/detokenize": [{"tokens": [5, 6, 7], "model": "tiny"}],
    "/v1/audio/speech": [
        {"input": "hello", "voice": "nova", "speed": 1.5, "seed": 7, "response_format": "mp3"},
        {"input": "hello", "voice_data": "UklGRg==", "cfg_scale": 2, "stream_format": "sse"},
        {"input": "hello", "voice_path": "a.wav", "max_frames": 3, "diffusion_steps": 5},
    ],
    "/v1/images/generations": [
        {"prompt": "a cat", "size": "64x64", "steps": 2, "seed": 7, "output_format": "webp"},
        {"prompt": "a cat", "n": 2, "stream": True, "partial_images": 1, "guidance_scale": 3.5},
    ],
    "/api/v1/image": [
        {"image_args": {"prompt": "a cat", "sd-width": 64, "sd-height": 64, "image-seed": 7}},
        {"image_args": {"prompt": "a cat", "sd-img2img": "aGk="}, "response_format": "png"},
    ],
    # None names the model that is served: the good requests need it.
    "/v1/models/load": [
        {"model": "/no/where", "name": "x", "kind": "chat", "ttl": 5, "pin": True, "stream": True}
    ],
    "/v1/models/unload": [{"model": "nobody", "timeout": 1.5}],
    "/v1/lora/load": [{"model": "x/y", "lora_name": "x", "lora_path": "/no/where", "scale": 2}],
    "/v1/lora/unload": [{"model": "x/y", "lora_name": "nobody"}],
}
READS = [
    "/", "/health", "/metrics", "/v1/metrics", "/v1/models", "/v1/lora", "/openapi.json", "/docs",
]  # fmt: skip

FIELDS = [
    *sorted({*CHAT, *COMPLETION, "suffix", "tokens", "input", "text", "content"}),
    "functions", "function_call", "modalities", "audio", "prediction", "regex", "grammar",
    "choice", "max_completion_tokens", "ignore_eos", "web_search_options", "unheard_of",
    "add_special_tokens", "parallel_tool_calls", "store", "", "model_config", "__class__",
]  # fmt: skip

ODD_NUMBERS = [-1, 0, 1, 16, 129, -0.0, 0.5, 1e308, -1e308, 1e-320, 99, 2**31, 2**63, 2**64, 10**40]
ODD_TEXTS = [
    "", "\x00", "a\u0301", "\U0001f9d1\u200d\U0001f680", "<|im_start|>", "{{ 7*7 }}", "{% x %}",
    "../../etc/passwd", "%s%n", "true", "1", "nan", "\ufeff", "\u202e", "x" * 3000, "org/model",
]  # fmt: skip
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(ODD_NUMBERS),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(ODD_TEXTS),
    st.text(max_size=20),
)
VALUES = st.one_of(
    SCALARS,
    st.recursive(
        SCALARS,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4),
            st.dictionaries(st.one_of(st.sampled_from(FIELDS), st.text(max_size=8)), inner),
        ),
        max_leaves=8,
    ),
)
MEDIA_TYPES = [
    "application/json", "application/json; charset=utf-16", "text/plain", "text/html", "", "/",
    "multipart/form-data; boundary=x", "multipart/form-data", "application/x-www-form-urlencoded",
    "application/octet-stream", "application/vnd.api+json",
]  # fmt: skip
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"]
RAW_BODIES = [
    b"", b" ", b"{", b"[]", b"null", b"1", b'"x"', b"{}", b'{"messages":', b"\xff\xfe{}", b"\x00",
    b"[" * 5000, b'{"a":' * 3000, b'{"seed":NaN}', b'{"top_p":1e999}', b'{"n":1,"n":2}',
    b'{"prompt":"\\ud800"}', b'{"seed":' + b"9" * 5000 + b"}", b"\xef\xbb\xbf{}", b"{'a':1}",
    b'{"messages":[{"role":"user","content":"\\u0000"}],"max_tokens":1}',
]  # fmt: skip
HEADERS = {
    "Accept": ["text/html", "*/*;q=2", ""],
    "Authorization": ["Bearer x", "Basic ====", "Bearer"],
    "Origin": ["null", "http://evil.example", "http://[", "://"],
    "Host": ["evil.example", "127.0.0.1", "[::1", "127.0.0.1:x"],
    "X-Request-Id": ["a", "a b", "x" * 200, "é"],
    "Content-Encoding": ["gzip", "br"],
    "Expect": ["something"],
    "Accept-Encoding": ["gzip;q=nonsense"],
    "Access-Control-Request-Method": ["POST"],
}
PATHS = [
    "/v1", "/v1/", "//v1/models", "/v1/models/", "/v1/models/nobody", "/v1/models/a/b/c",
    "/v1/models/%00", "/v1/models/%ff%fe", "/v1/models/..%2f..%2fetc", "/v1/chat/completions/",
    "/v1/messages", "/api/v1/image", "/inference", "/%2e%2e/%2e%2e/",
    "/" + "x" * 3000, "/v1/models?limit=-1&limit=x", "/health?x=%", "/favicon.ico",
    "/v1/embeddings",
]  # fmt: skip


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def requests() -> st.SearchStrategy[Request]:
    return st.one_of(mutated(), mutated(), mutated(), broken(), strange())


@st.composite
def mutated(draw: st.DrawFn) -> Request:
    """A valid body with one to three places changed."""
    path = draw(st.sampled_from(sorted(BODIES)))
    body: Any = copy.deepcopy(draw(st.sampled_from(BODIES[path])))
    for _ in range(draw(st.integers(1, 3))):
        draw(st.sampled_from([_replace, _remove, _add, _repeat]))(draw, body)
    return Request("POST", path, json.dumps(body).encode(), {"Content-Type": "application/json"})


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container with every key or index that it has."""
    keys: Any = value if isinstance(value, dict) else range(len(value))
    for key in keys:
        yield value, key
        if isinstance(value[key], dict | list):
            yield from _places(value[key])


def _place(draw: st.DrawFn, body: Any) -> tuple[Any, Any] | None:
    places = list(_places(body))
    return places[draw(st.integers(0, len(places) - 1))] if places else None


def _replace(draw: st.DrawFn, body: Any) -> None:
    if (place := _place(draw, body)) is not None:
        place[0][place[1]] = draw(VALUES)


def _remove(draw: st.DrawFn, body: Any) -> None:
    if (place := _place(draw, body)) is not None:
        del place[0][place[1]]


def _add(draw: st.DrawFn, body: Any) -> None:
    body[draw(st.sampled_from(FIELDS))] = draw(VALUES)


def _repeat(draw: st.DrawFn, body: Any) -> None:
    if (place := _place(draw, body)) is not None:
        value = place[0][place[1]]
        place[0][place[1]] = [copy.deepcopy(value) for _ in range(draw(st.integers(0, 20)))]


@st.composite
def broken(draw: st.DrawFn) -> Request:
    """Bytes that are no JSON any more, or never were."""
    path = draw(st.sampled_from(sorted(BODIES)))
    whole = json.dumps(draw(st.sampled_from(BODIES[path]))).encode()
    place = draw(st.integers(0, len(whole) - 1))
    body = draw(
        st.one_of(
            st.sampled_from(RAW_BODIES),
            st.binary(max_size=200),
            st.just(whole[:place]),
            st.binary(min_size=1, max_size=4).map(
                lambda junk: whole[:place] + junk + whole[place + len(junk) :]
            ),
        )
    )
    kind = draw(st.sampled_from(MEDIA_TYPES))
    return Request("POST", path, body, {"Content-Type": kind} if kind else {})


@st.composite
def strange(draw: st.DrawFn) -> Request:
    """Any method on any path, with headers that few clients send."""
    path = draw(st.sampled_from([*PATHS, *READS, *BODIES]))
    names = draw(st.lists(st.sampled_from(sorted(HEADERS)), max_size=2, unique=True))
    headers = {name: draw(st.sampled_from(HEADERS[name])) for name in names}
    body = draw(st.sampled_from([b"", b"{}", b"\x00\xff"]))
    return Request(draw(st.sampled_from(METHODS)), path, body, headers)


def send(client: httpx.Client, url: str, request: Request) -> httpx.Response:
    """Raises httpx.TimeoutException where the server hangs."""
    headers = {name.encode(): value.encode() for name, value in request.headers.items()}
    return client.request(request.method, url + request.path, content=request.body, headers=headers)


def fault(request: Request, answer: httpx.Response) -> str | None:
    """What is wrong with the answer, if anything."""
    if answer.status_code >= 500:
        return f"status {answer.status_code}"
    if request.method == "HEAD":
        return "a body for HEAD" if answer.content else None
    kind = answer.headers.get("content-type", "")
    if answer.status_code >= 400:
        return _not_an_envelope(request, answer, kind)
    if kind.startswith("text/event-stream"):
        return _bad_stream(answer.text)
    if kind.startswith("application/json"):
        return _unless(lambda: json.loads(answer.content), "not JSON")
    return None


def _not_an_envelope(request: Request, answer: httpx.Response, kind: str) -> str | None:
    if kind != "application/json":
        return f"an error as {kind!r}"
    try:
        body = json.loads(answer.content)
    except ValueError:
        return "an error that is not JSON"
    error = body.get("error") if isinstance(body, dict) else None
    if request.path.startswith("/api/v1/") or request.path.startswith("/inference"):
        return None if isinstance(error, str) else "an error without its text"
    if not isinstance(error, dict) or set(error) != {"message", "type", "param", "code"}:
        return "an error without the envelope"
    return None if isinstance(error["message"], str) and error["message"] else "no message"


def _bad_stream(text: str) -> str | None:
    events = [line.removeprefix("data: ") for line in text.split("\n") if line.startswith("data:")]
    if not events or events[-1] != "[DONE]":
        return f"a stream that ended with {events[-1:]}"
    return _unless(lambda: [json.loads(event) for event in events[:-1]], "an event is not JSON")


def _unless(read: Callable[[], Any], problem: str) -> str | None:
    try:
        read()
    except ValueError:
        return problem
    return None
