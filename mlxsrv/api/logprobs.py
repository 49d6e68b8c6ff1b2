"""Log probabilities as the two text routes write them."""

from __future__ import annotations

from collections.abc import Iterable

from mlxsrv.api.schemas.answers import ChatLogprobs, ContentLogprob, LegacyLogprobs, TopLogprob
from mlxsrv.core.text import TokenLogprob
from mlxsrv.engines.generation import TokenDecoder
from mlxsrv.engines.tokenizer import TextTokenizer

FLOOR = -9999.0
"""Stands for minus infinity, which JSON can't write."""


def token_text(piece: bytes) -> str:
    """A token as text. Bytes that are no character of their own are written as escapes, so
    that two such tokens stay apart."""
    try:
        return piece.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece)


class ChatLogprobWriter:
    """OpenAI's chat form, token by token."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self._tokenizer = tokenizer

    def write(self, tokens: Iterable[TokenLogprob]) -> ChatLogprobs:
        return {"content": [self._content(token) for token in tokens], "refusal": None}

    def _content(self, token: TokenLogprob) -> ContentLogprob:
        top = [self._top(id_, logprob) for id_, logprob in token.top]
        return {**self._top(token.id, token.logprob), "top_logprobs": top}

    def _top(self, id_: int, logprob: float) -> TopLogprob:
        piece = self._tokenizer.piece(id_)
        return {
            "token": token_text(piece),
            "logprob": max(logprob, FLOOR),
            "bytes": list(piece),
        }


class LegacyLogprobWriter:
    """The form of /v1/completions, which also says where in the text a token begins.

    One writer serves one choice: it decodes along, so that offsets count characters that were
    shown. `echoed` is the prompt's text when that comes first.
    """

    def __init__(
        self, tokenizer: TextTokenizer, decoder: TokenDecoder, *, top: int, echoed: str = ""
    ) -> None:
        self._tokenizer = tokenizer
        self._decoder = decoder
        self._top = top
        self._echoed = echoed
        self._offset = 0

    def write(self, tokens: Iterable[TokenLogprob]) -> LegacyLogprobs:
        out = self._empty()
        for token in tokens:
            self._add(out, token.id, token.logprob, token.top)
        return out

    def write_prompt(self, ids: tuple[int, ...], scores: list[TokenLogprob]) -> LegacyLogprobs:
        """The prompt's own tokens. Nothing comes before the first, so it has no probability."""
        out = self._empty()
        self._add(out, ids[0], None, ())
        for token in scores:
            self._add(out, token.id, token.logprob, token.top)
        self._offset = len(self._echoed)
        return out

    def _empty(self) -> LegacyLogprobs:
        return {
            "tokens": [],
            "token_logprobs": [],
            "top_logprobs": [] if self._top else None,
            "text_offset": [],
        }

    def _add(
        self,
        out: LegacyLogprobs,
        id_: int,
        logprob: float | None,
        top: tuple[tuple[int, float], ...],
    ) -> None:
        text = token_text(self._tokenizer.piece(id_))
        out["tokens"].append(text)
        out["token_logprobs"].append(None if logprob is None else max(logprob, FLOOR))
        out["text_offset"].append(self._offset)
        if out["top_logprobs"] is not None:
            out["top_logprobs"].append(None if logprob is None else self._likeliest(top))
        shown = self._decoder.feed(id_)
        if not shown and text and self._echoed.startswith(text, self._offset):
            shown = text  # a special token that the caller's own prompt spelt out
        self._offset += len(shown)

    def _likeliest(self, top: tuple[tuple[int, float], ...]) -> dict[str, float]:
        return {
            token_text(self._tokenizer.piece(id_)): max(logprob, FLOOR)
            for id_, logprob in top[: self._top]
        }


def joined(parts: Iterable[LegacyLogprobs]) -> LegacyLogprobs:
    """Consecutive pieces of one choice as one."""
    whole: LegacyLogprobs | None = None
    for part in parts:
        if whole is None:
            whole = part
            continue
        whole["tokens"] += part["tokens"]
        whole["token_logprobs"] += part["token_logprobs"]
        whole["text_offset"] += part["text_offset"]
        if whole["top_logprobs"] is not None:
            whole["top_logprobs"] += part["top_logprobs"] or []
    assert whole is not None
    return whole
