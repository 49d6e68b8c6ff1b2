"""How a reranker reads a query and a document together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from mlxsrv.core.encoding import TokenRow
from mlxsrv.core.errors import Unsupported
from mlxsrv.engines.encoder_tokenizer import EncoderTokenizer

# The format of Qwen3-Reranker (arXiv:2506.05176), from its model card.
_SYSTEM = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and "
    'the Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n'
    "<|im_start|>user\n"
)
_ANSWER = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
_INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"


class PairReader(Protocol):
    """The document stands last in a row, but for `closing` tokens, so it can be cut there."""

    @property
    def closing(self) -> int: ...

    def rows(self, query: str, documents: Sequence[str], instruction: str | None) -> list[TokenRow]:
        """A row for each document. Raises Unsupported."""
        ...


class CrossEncoder:
    """Both texts, one after the other, as the tokenizer joins a pair."""

    def __init__(self, folder: Path) -> None:
        """Raises LoadError."""
        self._tokenizer = EncoderTokenizer(folder)

    @property
    def closing(self) -> int:
        return self._tokenizer.closing

    def rows(self, query: str, documents: Sequence[str], instruction: str | None) -> list[TokenRow]:
        if instruction is not None:
            raise Unsupported("instruction: this model takes none", param="instruction")
        return self._tokenizer.pairs(query, documents)


class Judge:
    """A language model that is asked whether the document answers the query."""

    def __init__(self, folder: Path) -> None:
        """Raises LoadError."""
        self._tokenizer = EncoderTokenizer(folder, trusted=(_SYSTEM, _ANSWER))
        self._system = self._tokenizer.own(_SYSTEM)
        self._answer = self._tokenizer.own(_ANSWER)

    @property
    def closing(self) -> int:
        return self._tokenizer.closing + len(self._answer)

    def rows(self, query: str, documents: Sequence[str], instruction: str | None) -> list[TokenRow]:
        task = f"<Instruct>: {instruction or _INSTRUCTION}\n<Query>: {query}\n<Document>: "
        bodies = self._tokenizer.texts([task + document for document in documents])
        return [TokenRow(self._system + body.ids + self._answer) for body in bodies]
