"""Text generation on MLX: continuous batching over mlx-lm's models and batch caches."""

from __future__ import annotations

import copy
import time
from collections import deque
from collections.abc import Collection, Iterator
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten
from mlx_lm.models.cache import can_trim_prompt_cache, make_prompt_cache

from mlxsrv.backends.adapter import Adapter, require, require_unused
from mlxsrv.backends.base import ModelFacts
from mlxsrv.backends.mlx import sampling
from mlxsrv.backends.mlx.batch import Caches, DecodeGroup, PrefillGroup, Row
from mlxsrv.backends.mlx.lora import Adapters
from mlxsrv.backends.pacing import PrefillPacer
from mlxsrv.core.text import Kept, Prefix, Sequence, TokenLogprob, TokenOut

PREFILL_TOGETHER = 8


class MlxTextBackend:
    """Implements `TextBackend`; see there for the contract."""

    def __init__(
        self,
        model: nn.Module,
        vocab_size: int,
        *,
        pacer: PrefillPacer,
        padding_allowed: int,
    ) -> None:
        self._model = model
        self._adapters = Adapters(model)
        self._pacer = pacer
        self._padding_allowed = padding_allowed
        parameters = [array for _, array in tree_flatten(model.parameters())]
        floating = {str(a.dtype) for a in parameters if mx.issubdtype(a.dtype, mx.floating)}
        self.facts = ModelFacts(
            backend="mlx",
            vocab_size=vocab_size,
            memory_bytes=sum(array.nbytes for array in parameters),
            dtype=",".join(sorted(name.removeprefix("mlx.core.") for name in floating)),
        )
        self._waiting: deque[Row] = deque()
        self._prefills: deque[PrefillGroup] = deque()
        self._groups: list[DecodeGroup] = []

    def insert(self, sequence: Sequence, prefix: Prefix | None = None) -> None:
        require(sequence.adapter, self._adapters)
        row = Row(
            sequence,
            tokens=list(sequence.prompt + sequence.generated),
            generated=len(sequence.generated),
            chooser=sampling.Chooser(sequence, self.facts.vocab_size),
        )
        if prefix is not None:
            row.caches, row.cached = _cut(prefix), prefix.length
        self._waiting.append(row)

    def step(self) -> list[TokenOut]:
        outs = [out for group in self._groups for out in self._decode(group)]
        self._groups = [group for group in self._groups if group.rows]
        self._advance_prefill()
        return outs

    def _decode(self, group: DecodeGroup) -> list[TokenOut]:
        rows, tokens, picked = group.step()
        logprobs = picked.by_row(tokens, [row.sequence.top_logprobs for row in rows])
        outs = [
            self._token_out(group, place, token, logprobs.get(place))
            for place, token in enumerate(tokens)
        ]
        group.remove({out.uid for out in outs if out.finish or out.error})
        return outs

    def _token_out(
        self, group: DecodeGroup, place: int, token: int, logprob: TokenLogprob | None
    ) -> TokenOut:
        row = group.rows[place]
        sequence = row.sequence
        if row.error is not None:
            return TokenOut(sequence.uid, error=row.error)
        finish = sequence.finish(token, row.generated)
        kept = None
        if finish is not None and sequence.keep:
            kept = _kept(group.caches_of(place), row)
        return TokenOut(sequence.uid, token, logprob, finish, kept=kept)

    def _advance_prefill(self) -> None:
        """Feeds a chunk to some prompts that wait; those that are done decode from now on.

        Prompts that came together are fed together, and groups take turns, so that a short
        prompt does not wait for the end of a long one.
        """
        while self._waiting:
            together = min(PREFILL_TOGETHER, len(self._waiting))
            rows = [self._waiting.popleft() for _ in range(together)]
            self._prefills.append(PrefillGroup(self._model, self._adapters, rows))
        if not self._prefills:
            return
        group = self._prefills.popleft()
        chunk = self._pacer.chunk(rows=len(group.rows), decoding=bool(self._groups))
        began = time.perf_counter()
        fed = group.advance(chunk)
        self._pacer.observe(fed, time.perf_counter() - began)
        rows, caches = group.take_done()
        if rows:
            self._join(rows, caches)
        if group.rows:
            self._prefills.append(group)

    def _join(self, rows: list[Row], caches: Caches) -> None:
        """Into the first group that it does not blow up, else into a new one.

        A group pads all its rows to the longest. A very long one beside short ones would take
        longer to join than a slice, and more memory, than a pass of its own costs.
        """
        for group in self._groups:
            padding, tokens = group.padding_with(rows, caches)
            if padding <= max(tokens, self._padding_allowed):
                group.join(rows, caches)
                return
        group = DecodeGroup(self._model, self._adapters)
        group.join(rows, caches)
        self._groups.append(group)

    def keep(self, uid: int) -> Kept | None:
        for group in self._groups:
            for place, row in enumerate(group.rows):
                if row.sequence.uid == uid and row.generated > len(row.sequence.generated):
                    return _kept(group.caches_of(place), row)
        return None

    def remove(self, uids: Collection[int]) -> None:
        gone = set(uids)
        for group in self._groups:
            group.remove(gone)
        self._groups = [group for group in self._groups if group.rows]
        for prefill in self._prefills:
            prefill.remove(gone)
        self._prefills = deque(prefill for prefill in self._prefills if prefill.rows)
        self._waiting = deque(row for row in self._waiting if row.sequence.uid not in gone)

    def reset(self) -> None:
        self._waiting.clear()
        self._prefills.clear()
        self._groups = []
        mx.clear_cache()

    def add_adapter(self, name: str, adapter: Adapter) -> None:
        self._adapters.add(name, adapter)

    def remove_adapter(self, name: str) -> None:
        require_unused(name, (row.sequence for row in self._rows()))
        self._adapters.remove(name)
        mx.clear_cache()

    def _rows(self) -> Iterator[Row]:
        groups: list[PrefillGroup | DecodeGroup] = [*self._prefills, *self._groups]
        yield from self._waiting
        for group in groups:
            yield from group.rows

    def score(
        self, ids: tuple[int, ...], top: int, adapter: str | None = None
    ) -> Iterator[list[TokenLogprob]]:
        require(adapter, self._adapters)
        cache = make_prompt_cache(self._model)
        start = 0
        while start < len(ids) - 1:
            chunk = self._pacer.chunk(rows=1, decoding=bool(self._groups))
            inputs = ids[start : min(start + chunk, len(ids) - 1)]
            following = ids[start + 1 : start + 1 + len(inputs)]
            began = time.perf_counter()
            self._adapters.use((adapter,))
            logprobs = sampling.log_softmax(self._model(mx.array([inputs]), cache=cache)[0])
            scored = _scored(logprobs, following, top)
            self._pacer.observe(len(inputs), time.perf_counter() - began)
            yield scored
            start += len(inputs)

    def close(self) -> None:
        self.reset()
        del self._model, self._adapters
        mx.clear_cache()


def _scored(logprobs: mx.array, following: tuple[int, ...], top: int) -> list[TokenLogprob]:
    """The log probability of each following token under its row [tokens, vocabulary]."""
    chosen = mx.take_along_axis(logprobs, mx.array(following)[:, None], axis=-1)[:, 0].tolist()
    if top == 0:
        return [TokenLogprob(*pair) for pair in zip(following, chosen, strict=True)]
    ids, values = (part.tolist() for part in sampling.top(logprobs, top))
    return [
        TokenLogprob(token, chosen[place], sampling.best_first(ids[place], values[place]))
        for place, token in enumerate(following)
    ]


def _kept(caches: Caches, row: Row) -> Kept:
    states = [layer.state for layer in caches]
    # Computed now: a lazy slice would hold on to the state of the whole batch.
    mx.async_eval(states)
    return Kept(
        tokens=tuple(row.tokens),
        state=caches,
        nbytes=sum(layer.nbytes for layer in caches),
        can_be_cut=can_trim_prompt_cache(caches),
        adapter=row.sequence.adapter,
        arrays=sum(isinstance(leaf, mx.array) for _, leaf in tree_flatten(states)),
    )


def _cut(prefix: Prefix) -> list[Any]:
    """The layers' caches, cut to the prefix, over the very arrays that are kept.

    They are merged into a batch, and never written to.
    """
    assert isinstance(prefix.state, list)
    layers = [copy.copy(layer) for layer in prefix.state]
    for layer in layers:
        surplus = layer.size() - prefix.length
        if surplus > 0:
            layer.trim(surplus)
    return layers
