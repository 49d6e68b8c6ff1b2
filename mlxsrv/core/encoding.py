"""The nouns of embedding and reranking, shared by the engines and both backends."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TokenRow:
    """One text, or a pair of texts, as token ids with its special tokens.

    `types` are the segment ids of a pair, as long as `ids`; empty means all of the first.
    `unpooled` first tokens are read but left out of the pooling.
    """

    ids: tuple[int, ...]
    types: tuple[int, ...] = ()
    unpooled: int = 0
