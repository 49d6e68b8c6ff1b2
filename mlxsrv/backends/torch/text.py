"""Text generation on torch: continuous batching over a transformers model.

Rows of the batch are ordered: those that decode come first, then those still in prefill.
Prompts that end together give their first tokens at once; else a prompt's last token is left
to its first decoding step, because a padded row has no logits.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace

import torch
from transformers import PreTrainedModel

from mlxsrv.backends.adapter import Adapter, require, require_unused
from mlxsrv.backends.base import ModelFacts
from mlxsrv.backends.pacing import PrefillPacer
from mlxsrv.backends.torch.forward import forward_for
from mlxsrv.backends.torch.lora import Adapters
from mlxsrv.backends.torch.precision import use_threads
from mlxsrv.backends.torch.sampling import Chooser, choose, likeliest
from mlxsrv.core.text import Kept, Prefix, Sequence, TokenLogprob, TokenOut

PREFILL_TOGETHER = 8


@dataclass(slots=True)
class _Row:
    """A sequence in the batch: its tokens, and how many of them the cache holds."""

    sequence: Sequence
    tokens: list[int]
    chooser: Chooser
    generated: int
    cached: int = 0
    error: Exception | None = field(default=None)

    @property
    def decodes(self) -> bool:
        return self.cached >= len(self.tokens) - 1


class TorchTextBackend:
    """Implements `TextBackend`; see there for the contract."""

    def __init__(
        self, model: PreTrainedModel, vocab_size: int, *, pacer: PrefillPacer, threads: int
    ) -> None:
        self._model = model
        self._pacer = pacer
        self._threads = threads
        self._adapters = Adapters(model)
        self._forward = forward_for(model, self._adapters)
        self._rows: list[_Row] = []
        self.facts = ModelFacts(
            backend="torch",
            vocab_size=vocab_size,
            memory_bytes=sum(p.nbytes for p in model.parameters()),
            dtype=str(model.dtype).removeprefix("torch."),
        )

    @torch.inference_mode()
    def insert(self, sequence: Sequence, prefix: Prefix | None = None) -> None:
        require(sequence.adapter, self._adapters)
        tokens = list(sequence.prompt + sequence.generated)
        row = _Row(sequence, tokens, Chooser(sequence), len(sequence.generated))
        self._rows.append(row)
        if prefix is not None:
            self._forward.restore(len(self._rows) - 1, prefix)
            row.cached = prefix.length
        if row.decodes:
            self._start_decoding(len(self._rows) - 1)

    @torch.inference_mode()
    def step(self) -> list[TokenOut]:
        use_threads(self._threads)
        decoding = self._decoding()
        outs = self._decode(decoding) if decoding else []
        return outs + self._prefill()

    def _decoding(self) -> int:
        """How many rows decode; they are the first ones."""
        for index, row in enumerate(self._rows):
            if not row.decodes:
                return index
        return len(self._rows)

    def _decode(self, count: int) -> list[TokenOut]:
        rows = self._rows[:count]
        return self._choose(rows, self._feed(0, rows, [row.tokens[-1:] for row in rows]))

    def _choose(self, rows: list[_Row], logits: torch.Tensor) -> list[TokenOut]:
        """The next token of each row, from logits [rows, vocabulary]."""
        for row, values in zip(rows, logits, strict=True):
            self._edit(row, values)
        chosen = choose(logits, [row.chooser for row in rows])
        logprobs = self._logprobs(rows, logits)
        outs = [
            self._advance(row, token, logprobs.get(place))
            for place, (row, token) in enumerate(zip(rows, chosen, strict=True))
        ]
        self.remove([out.uid for out in outs if out.finish or out.error])
        return outs

    def _feed(self, first: int, rows: list[_Row], parts: list[list[int]]) -> torch.Tensor:
        """Feeds each row its part. Returns logits as `Forward` does."""
        adapters = [row.sequence.adapter for row in rows]
        logits = self._forward(first, parts, [row.cached for row in rows], adapters)
        for row, part in zip(rows, parts, strict=True):
            row.cached += len(part)
        return logits

    def _edit(self, row: _Row, logits: torch.Tensor) -> None:
        if not row.sequence.sampling.edits_logits:
            return
        try:
            row.chooser.edit(logits)
        except Exception as error:
            row.error = error

    def _logprobs(self, rows: list[_Row], logits: torch.Tensor) -> dict[int, torch.Tensor]:
        """Log probabilities [vocabulary] of the rows that ask for them, by place."""
        wanted = [i for i, row in enumerate(rows) if row.sequence.top_logprobs is not None]
        if not wanted:
            return {}
        return dict(zip(wanted, torch.log_softmax(logits[wanted].float(), dim=-1), strict=True))

    def _advance(self, row: _Row, token: int, logprobs: torch.Tensor | None) -> TokenOut:
        sequence = row.sequence
        if row.error is not None:
            return TokenOut(sequence.uid, error=row.error)
        row.tokens.append(token)
        row.generated += 1
        row.chooser.took(token)
        finish = sequence.finish(token, row.generated)
        logprob = None
        if logprobs is not None:
            logprob = _token_logprob(logprobs, token, sequence.top_logprobs or 0)
        kept = self.keep(sequence.uid) if finish is not None and sequence.keep else None
        return TokenOut(sequence.uid, token, logprob, finish, kept=kept)

    @torch.inference_mode()
    def keep(self, uid: int) -> Kept | None:
        index = self._index(uid)
        if index is None or not self._rows[index].decodes:
            return None
        row = self._rows[index]
        kept = self._forward.keep(index, tuple(row.tokens[: row.cached]))
        return None if kept is None else replace(kept, adapter=row.sequence.adapter)

    def _index(self, uid: int) -> int | None:
        return next((i for i, row in enumerate(self._rows) if row.sequence.uid == uid), None)

    def _prefill(self) -> list[TokenOut]:
        """Feeds one chunk to the first rows that wait."""
        start = self._decoding()
        rows = self._rows[start : start + PREFILL_TOGETHER]
        if not rows:
            return []
        chunk = self._pacer.chunk(rows=len(rows), decoding=start > 0)
        rests = [row.tokens[row.cached :] for row in rows]
        end_together = len({len(rest) for rest in rests}) == 1 and len(rests[0]) <= chunk
        parts = rests if end_together else [rest[:-1][:chunk] for rest in rests]
        began = time.perf_counter()
        logits = self._feed(start, rows, parts)
        self._pacer.observe(sum(map(len, parts)), time.perf_counter() - began)
        for index in range(start, start + len(rows)):
            if self._rows[index].decodes:
                self._start_decoding(index)
        return self._choose(rows, logits) if end_together else []

    def _start_decoding(self, index: int) -> None:
        """Moves a row whose prompt is done in front of those that are still in prefill."""
        row = self._rows[index]
        first = next(i for i, other in enumerate(self._rows) if other is row or not other.decodes)
        if first < index:
            self._forward.swap(first, index, max(row.cached, self._rows[first].cached))
            self._rows[first], self._rows[index] = row, self._rows[first]

    @torch.inference_mode()
    def remove(self, uids: Collection[int]) -> None:
        for uid in uids:
            index = self._index(uid)
            if index is not None:
                self._close_gap(index)

    def _close_gap(self, index: int) -> None:
        """Fills a row that leaves with the last of its group, and that one with the last of all."""
        decoding = self._decoding()
        for last in ([decoding - 1] if index < decoding else []) + [len(self._rows) - 1]:
            if last > index:
                self._forward.move(last, index, self._rows[last].cached)
                self._rows[index] = self._rows[last]
                index = last
        self._rows.pop()

    def reset(self) -> None:
        self._rows.clear()
        self._forward = forward_for(self._model, self._adapters)

    def add_adapter(self, name: str, adapter: Adapter) -> None:
        use_threads(self._threads)
        self._adapters.add(name, adapter)

    def remove_adapter(self, name: str) -> None:
        require_unused(name, (row.sequence for row in self._rows))
        self._adapters.remove(name)

    @torch.inference_mode()
    def score(
        self, ids: tuple[int, ...], top: int, adapter: str | None = None
    ) -> Iterator[list[TokenLogprob]]:
        from transformers import DynamicCache

        require(adapter, self._adapters)
        cache = DynamicCache(config=self._model.config)
        start = 0
        while start < len(ids) - 1:
            use_threads(self._threads)
            chunk = self._pacer.chunk(rows=1, decoding=bool(self._rows))
            inputs = ids[start : min(start + chunk, len(ids) - 1)]
            began = time.perf_counter()
            self._adapters.use((adapter,))
            logits = self._model(
                torch.tensor([inputs], device=self._model.device), past_key_values=cache
            ).logits[0]
            logprobs = torch.log_softmax(logits.float(), dim=-1)
            self._pacer.observe(len(inputs), time.perf_counter() - began)
            following = ids[start + 1 : start + 1 + len(inputs)]
            yield [
                _token_logprob(logprobs[place], token, top) for place, token in enumerate(following)
            ]
            start += len(inputs)

    def close(self) -> None:
        self._rows.clear()
        del self._model, self._forward, self._adapters


def _token_logprob(logprobs: torch.Tensor, token: int, top: int) -> TokenLogprob:
    return TokenLogprob(token, float(logprobs[token]), likeliest(logprobs, top))
