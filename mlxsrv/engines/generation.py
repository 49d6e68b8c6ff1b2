"""One choice being generated: from its tokens to the deltas its caller sees. Pure."""

from __future__ import annotations

from collections import deque
from typing import Protocol

from mlxsrv.core.text import FinishReason, TextDelta, TextRequest, TokenLogprob, TokenOut
from mlxsrv.engines.parsers.reasoning import ReasoningSplitter
from mlxsrv.engines.parsers.stop import StopMatcher


class TokenDecoder(Protocol):
    def feed(self, token: int) -> str: ...

    def flush(self) -> str: ...


class Generation:
    """Decodes, splits off reasoning, stops at stop strings, and counts."""

    def __init__(self, choice: int, request: TextRequest, decoder: TokenDecoder) -> None:
        self.choice = choice
        self.tokens: list[int] = []
        self._decoder = decoder
        self._stop = StopMatcher(request.stop)
        self._reasoning: ReasoningSplitter | None = None
        if request.reasoning is not None:
            self._reasoning = ReasoningSplitter(request.reasoning, thinking=request.thinking)
        self._reasoning_tokens = 0
        self._pending = _PendingTokens() if request.top_logprobs is not None else None

    def accept(self, out: TokenOut) -> TextDelta | None:
        """What one more token adds; None while text is held back.

        A delta with `finish` is the last. It may finish here, at a stop string, though the
        backend would go on.
        """
        self.tokens.append(out.token)
        text = self._decoder.feed(out.token)
        content, reasoning = self._split(text)
        finish = out.finish
        if finish is not None:
            tail_content, tail_reasoning = self._split(self._decoder.flush(), last=True)
            text += tail_content + tail_reasoning
            content, reasoning = content + tail_content, reasoning + tail_reasoning
        shown = self._stop.feed(content)
        if self._stop.matched:
            finish = "stop"
        elif finish is not None:
            shown += self._stop.flush()
        return self._delta(shown, reasoning, finish, out, len(text))

    def _split(self, text: str, *, last: bool = False) -> tuple[str, str]:
        if self._reasoning is None:
            return text, ""
        if self._reasoning.thinking:
            self._reasoning_tokens += not last
        content, reasoning = self._reasoning.feed(text)
        if last:
            more_content, more_reasoning = self._reasoning.flush()
            return content + more_content, reasoning + more_reasoning
        return content, reasoning

    def _delta(
        self, content: str, reasoning: str, finish: FinishReason | None, out: TokenOut, length: int
    ) -> TextDelta | None:
        tokens: tuple[TokenLogprob, ...] = ()
        if self._pending is not None and out.logprob is not None:
            if out.finish != "stop":  # the end token is no part of the text
                self._pending.add(out.logprob, length)
            ended = finish is not None and not self._stop.matched
            tokens = self._pending.release(len(content) + len(reasoning), all_=ended)
        if not (content or reasoning or tokens or finish):
            return None
        return TextDelta(
            self.choice,
            content,
            reasoning,
            tokens,
            finish,
            generated=len(self.tokens),
            reasoning_tokens=self._reasoning_tokens,
        )


class _PendingTokens:
    """Log probabilities that wait until the text of their tokens is shown."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[TokenLogprob, int]] = deque()
        self._credit = 0

    def add(self, token: TokenLogprob, characters: int) -> None:
        self._waiting.append((token, characters))

    def release(self, shown: int, *, all_: bool) -> tuple[TokenLogprob, ...]:
        """Tokens whose text is covered by what has been shown; `all_` at the end."""
        self._credit += shown
        out: list[TokenLogprob] = []
        while self._waiting and (all_ or self._waiting[0][1] <= self._credit):
            token, characters = self._waiting.popleft()
            self._credit -= characters
            out.append(token)
        return tuple(out)
