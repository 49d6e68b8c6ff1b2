"""What is measured: a server, or the library alone in a process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from mlxsrv.backends.select import Backend
from mlxsrv.bench import client
from mlxsrv.bench.answer import Answer
from mlxsrv.bench.client import Endpoint, Exchange
from mlxsrv.bench.words import Message

Api = Literal["chat", "completions"]
PATHS = {"chat": "/v1/chat/completions", "completions": "/v1/completions"}


@dataclass(frozen=True, slots=True)
class Work:
    """How a request is asked: greedily, so that every server has the same to do."""

    max_tokens: int
    stream: bool = True
    api: Api = "chat"
    sampling: dict[str, Any] = field(default_factory=lambda: {"temperature": 0})

    def body(self, messages: Sequence[Message]) -> dict[str, Any]:
        """`messages` as a chat, or the last of them as a prompt to complete."""
        body: dict[str, Any] = {"max_tokens": self.max_tokens, **self.sampling}
        if self.api == "chat":
            body["messages"] = [message.json() for message in messages]
        else:
            body["prompt"] = messages[-1].content
        if self.stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return body


Chat = Sequence[Message]


@dataclass(frozen=True, slots=True)
class Subject:
    """A running server. `pid` is None for one that is not ours to look into."""

    name: str
    family: Backend | None
    endpoint: Endpoint
    pid: int | None = None
    ours: bool = False

    async def ask(self, chat: Chat, work: Work) -> Answer:
        return await client.ask(self.endpoint, PATHS[work.api], work.body(chat))

    async def start(self, chat: Chat, work: Work) -> Exchange:
        """Raises OSError where nobody takes the connection."""
        return await client.start(self.endpoint, PATHS[work.api], work.body(chat))

    async def generate(self, chats: Sequence[Chat], work: Work) -> list[Answer]:
        """Asks all at once."""
        return list(await asyncio.gather(*(self.ask(chat, work) for chat in chats)))
