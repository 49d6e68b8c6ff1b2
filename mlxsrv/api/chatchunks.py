"""The chunks of a streamed chat answer."""

from __future__ import annotations

from typing import Any

import orjson

from mlxsrv.api.logprobs import ChatLogprobWriter
from mlxsrv.api.text import Running
from mlxsrv.core.text import FinishReason, TextDelta

_REST = b'},"logprobs":null,"finish_reason":null'


class ChatChunkWriter:
    """Writes deltas as chunks: a role chunk, content chunks and a finish chunk per choice."""

    def __init__(self, running: Running, *, include_usage: bool) -> None:
        self._running = running
        self._include_usage = include_usage
        self._chunks = running.chunks("chat.completion.chunk", include_usage=include_usage)
        indexes = range(running.request.n)
        self._unfinished = len(indexes)
        around = self._chunks.around
        self._content = [around(i, b'"delta":{"content":', _REST) for i in indexes]
        self._thought = [around(i, b'"delta":{"reasoning_content":', _REST) for i in indexes]
        self._logprobs = None
        if running.request.top_logprobs is not None:
            self._logprobs = ChatLogprobWriter(running.model.tokenizer)

    def opening(self) -> list[bytes]:
        delta = {"role": "assistant", "content": "", "refusal": None}
        return [self._chunks.choice(_choice(index, delta)) for index in range(len(self._content))]

    def write(self, delta: TextDelta, out: list[bytes]) -> None:
        """Appends what `delta` adds; several chunks where it holds several kinds of things."""
        if delta.tokens:
            out.append(self._with_logprobs(delta))
        else:
            if delta.reasoning:
                before, after = self._thought[delta.choice]
                text = orjson.dumps(delta.reasoning)
                out.append(before + text + b',"reasoning":' + text + after)
            if delta.content:
                before, after = self._content[delta.choice]
                out.append(before + orjson.dumps(delta.content) + after)
        if delta.finish is not None:
            out.append(self._finish(delta.choice, delta.finish))

    def _with_logprobs(self, delta: TextDelta) -> bytes:
        assert self._logprobs is not None
        fields = {"content": delta.content}
        if delta.reasoning:
            fields |= {"reasoning_content": delta.reasoning, "reasoning": delta.reasoning}
        value = _choice(delta.choice, fields)
        value["logprobs"] = self._logprobs.write(delta.tokens)
        return self._chunks.choice(value)

    def _finish(self, index: int, reason: FinishReason) -> bytes:
        self._unfinished -= 1
        value = _choice(index, {})
        value["finish_reason"] = reason
        if self._unfinished or self._include_usage:
            return self._chunks.choice(value)
        return self._chunks.choice(value, self._running.tally.timings(self._running.stream))

    def closing(self) -> bytes:
        return self._running.closing(self._chunks, include_usage=self._include_usage)


def _choice(index: int, delta: dict[str, Any]) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
