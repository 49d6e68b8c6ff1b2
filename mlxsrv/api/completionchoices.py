"""The choices of /v1/completions, whole and as chunks, with the prompts they echo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from mlxsrv.api.logprobs import LegacyLogprobWriter, joined
from mlxsrv.api.schemas.answers import CompletionChoice, LegacyLogprobs
from mlxsrv.api.schemas.completions import CompletionRequest
from mlxsrv.api.text import Running
from mlxsrv.core.text import FinishReason, TextDelta, TokenLogprob

_REST = b',"logprobs":null,"finish_reason":null'


@dataclass(frozen=True, slots=True)
class Echo:
    """What comes before a prompt's choices: its own text, and how likely that was.

    `scores` are those of all tokens but the first, where log probabilities were asked for.
    """

    ids: tuple[int, ...]
    text: str | None = None
    scores: list[TokenLogprob] | None = None


async def score_echoes(running: Running, body: CompletionRequest) -> list[Echo]:
    """An echo per prompt; empty ones where none is asked for."""
    echoes = []
    for ids, prompt in zip(running.request.prompts, body.prompt, strict=True):
        if not body.echo:
            echoes.append(Echo(ids))
            continue
        given = prompt.content
        text = given if isinstance(given, str) else _decoded(running, ids)
        scores = None
        if body.logprobs is not None:
            scores = await running.model.engine.score(ids, body.logprobs, running.model.adapter)
        echoes.append(Echo(ids, text, scores))
    return echoes


def _decoded(running: Running, ids: tuple[int, ...]) -> str:
    decoder = running.model.tokenizer.decoder(replace(running.request, starts_text=True))
    return "".join([*map(decoder.feed, ids), decoder.flush()])


def _logprob_writer(running: Running, echo: Echo, top: int) -> LegacyLogprobWriter:
    request = running.request
    if echo.text is not None:
        request = replace(request, starts_text=True)
    tokenizer = running.model.tokenizer
    return LegacyLogprobWriter(
        tokenizer, tokenizer.decoder(request), top=top, echoed=echo.text or ""
    )


@dataclass(slots=True)
class Choice:
    """One choice of an answer that is sent whole."""

    parts: list[str] = field(default_factory=list)
    tokens: list[TokenLogprob] = field(default_factory=list)
    finish: FinishReason = "length"

    def add(self, delta: TextDelta) -> None:
        self.parts.append(delta.content)
        self.tokens.extend(delta.tokens)
        if delta.finish is not None:
            self.finish = delta.finish

    @property
    def mean_logprob(self) -> float:
        if not self.tokens:
            return float("-inf")
        return sum(token.logprob for token in self.tokens) / len(self.tokens)

    def answer(
        self, index: int, running: Running, echo: Echo, *, top: int | None
    ) -> CompletionChoice:
        return {
            "index": index,
            "text": (echo.text or "") + "".join(self.parts),
            "logprobs": None if top is None else self._logprobs(running, echo, top),
            "finish_reason": self.finish,
        }

    def _logprobs(self, running: Running, echo: Echo, top: int) -> LegacyLogprobs:
        writer = _logprob_writer(running, echo, top)
        parts = []
        if echo.scores is not None:
            parts.append(writer.write_prompt(echo.ids, echo.scores))
        parts.append(writer.write(self.tokens))
        return joined(parts)


async def collect(running: Running) -> list[Choice]:
    """Every candidate of every prompt, in order."""
    request = running.request
    choices = [Choice() for _ in range(len(request.prompts) * request.n)]
    if running.stream is not None:
        async for deltas in running.stream:
            running.tally.see(deltas)
            for delta in deltas:
                choices[delta.choice].add(delta)
    return choices


def best(candidates: Sequence[Choice], made: int, wanted: int) -> list[Choice]:
    """Of `made` candidates a prompt, the `wanted` with the highest mean log probability."""
    out: list[Choice] = []
    for start in range(0, len(candidates), made):
        group = candidates[start : start + made]
        out.extend(sorted(group, key=lambda choice: -choice.mean_logprob)[:wanted])
    return out


class Writer:
    """The chunks of a streamed completion."""

    def __init__(
        self, running: Running, echoes: list[Echo], *, top: int | None, include_usage: bool
    ) -> None:
        self._running = running
        self._include_usage = include_usage
        self._chunks = running.chunks("text_completion", include_usage=include_usage)
        self._echoes = [echo for echo in echoes for _ in range(running.request.n)]
        self._unfinished = len(self._echoes)
        indexes = range(len(self._echoes))
        self._text = [self._chunks.around(i, b'"text":', _REST) for i in indexes]
        self._logprobs: list[LegacyLogprobWriter] | None = None
        if top is not None:
            self._logprobs = [_logprob_writer(running, echo, top) for echo in self._echoes]

    def opening(self) -> list[bytes]:
        """The echoes."""
        out = []
        for index, echo in enumerate(self._echoes):
            if echo.text is None:
                continue
            value = _choice(index, echo.text)
            if self._logprobs is not None and echo.scores is not None:
                value["logprobs"] = self._logprobs[index].write_prompt(echo.ids, echo.scores)
            out.append(self._chunks.choice(value))
        return out

    def write(self, delta: TextDelta, out: list[bytes]) -> None:
        if delta.tokens and self._logprobs is not None:
            value = _choice(delta.choice, delta.content)
            value["logprobs"] = self._logprobs[delta.choice].write(delta.tokens)
            out.append(self._chunks.choice(value))
        elif delta.content:
            before, after = self._text[delta.choice]
            out.append(before + orjson.dumps(delta.content) + after)
        if delta.finish is not None:
            out.append(self._finish(delta.choice, delta.finish))

    def unstarted(self) -> bytes:
        """The ends of choices that generate nothing."""
        return b"".join(self._finish(i, "length") for i in range(len(self._echoes)))

    def _finish(self, index: int, reason: FinishReason) -> bytes:
        self._unfinished -= 1
        value = _choice(index, "")
        value["finish_reason"] = reason
        if self._unfinished or self._include_usage:
            return self._chunks.choice(value)
        return self._chunks.choice(value, self._running.tally.timings(self._running.stream))

    def closing(self) -> bytes:
        return self._running.closing(self._chunks, include_usage=self._include_usage)


def _choice(index: int, text: str) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": None}
