"""A conversation with one model, and its history."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

from mlxsrv.cli.client import Client


class Conversation:
    """Asks in turn and remembers. A model without a chat template continues plain text."""

    def __init__(
        self,
        client: Client,
        model: str,
        *,
        has_template: bool,
        system: str | None,
        options: Mapping[str, Any],
    ) -> None:
        self.model = model
        self._client = client
        self._has_template = has_template
        self._options = options
        self._messages: list[dict[str, str]] = []
        if system:
            self._messages.append({"role": "system", "content": system})

    def ask(self, text: str) -> Generator[str, None, None]:
        """The answer, piece by piece.

        What was said before the caller stopped reading stays in the history, the question of
        a request that failed does not. Raises ServerAbsent or ServerRefused.
        """
        if not self._has_template:
            yield from self._complete(text)
            return
        self._messages.append({"role": "user", "content": text})
        answer: list[str] = []
        try:
            for piece in self._chat():
                answer.append(piece)
                yield piece
        finally:
            if answer:
                self._messages.append({"role": "assistant", "content": "".join(answer)})
            else:
                self._messages.pop()

    def _chat(self) -> Generator[str, None, None]:
        body = {**self._options, "model": self.model, "messages": self._messages}
        for event in self._client.stream("/v1/chat/completions", body):
            for choice in event.get("choices", ()):
                piece = choice["delta"].get("content")
                if piece:
                    yield piece

    def _complete(self, text: str) -> Generator[str, None, None]:
        body = {**self._options, "model": self.model, "prompt": text}
        for event in self._client.stream("/v1/completions", body):
            for choice in event.get("choices", ()):
                if choice.get("text"):
                    yield choice["text"]
