"""Choosing the next tokens of a batch with MLX arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import mlx.core as mx

from mlxsrv.backends.draws import Draws
from mlxsrv.core.text import Sampling, TokenLogprob
from mlxsrv.core.text import Sequence as TextSequence


class Chooser:
    """One sequence's part in sampling: its settings, its draws, the tokens it has seen.

    `took` and `edited` work on lazy arrays: the last token is not known yet when the next step
    is started.
    """

    def __init__(self, sequence: TextSequence, vocab_size: int) -> None:
        self.sampling = sequence.sampling
        self.top_logprobs = sequence.top_logprobs
        self._draws = Draws(sequence.sampling.seed, skip=len(sequence.generated))
        self._counts: mx.array | None = None
        self._seen: mx.array | None = None
        self._bias: mx.array | None = None
        if self.sampling.edits_logits:
            self._prepare(sequence, vocab_size)

    def _prepare(self, sequence: TextSequence, vocab_size: int) -> None:
        """How often each token was generated, which have been seen at all, and the bias."""
        nothing = mx.zeros(vocab_size)
        self._counts = _counted(nothing, sequence.generated)
        self._seen = _counted(self._counts, sequence.prompt)
        if self.sampling.logit_bias:
            ids = mx.array(list(self.sampling.logit_bias.keys()))
            self._bias = nothing.at[ids].add(mx.array(list(self.sampling.logit_bias.values())))

    def draw(self) -> float:
        return self._draws.next()

    def took(self, token: mx.array) -> None:
        """Notes a generated token (an array without dimensions)."""
        assert self._counts is not None
        assert self._seen is not None
        self._counts = self._counts.at[token].add(1.0)
        self._seen = self._seen.at[token].add(1.0)

    def edited(self, logits: mx.array) -> mx.array:
        """One row of logits [vocabulary] with penalties and bias."""
        sampling = self.sampling
        assert self._counts is not None
        assert self._seen is not None
        if sampling.repetition_penalty != 1.0:
            penalty = sampling.repetition_penalty
            penalised = mx.where(logits > 0, logits / penalty, logits * penalty)
            logits = mx.where(self._seen > 0, penalised, logits)
        if sampling.frequency_penalty or sampling.presence_penalty:
            logits = logits - self._counts * sampling.frequency_penalty
            logits = logits - (self._counts > 0) * sampling.presence_penalty
        return logits if self._bias is None else logits + self._bias


def _counted(counts: mx.array, tokens: Sequence[int]) -> mx.array:
    return counts.at[mx.array(tokens)].add(1.0) if tokens else counts


@dataclass(slots=True)
class Picked:
    """Log probabilities of one step's tokens, for the rows that asked for them."""

    rows: list[int] = field(default_factory=list)
    chosen: mx.array | None = None
    top_ids: mx.array | None = None
    top_values: mx.array | None = None

    def arrays(self) -> list[mx.array]:
        parts = (self.chosen, self.top_ids, self.top_values)
        return [part for part in parts if part is not None]

    def only(self, places: list[int]) -> Picked:
        """The same after rows were removed: `places` are the old ones of those that are left."""
        if self.chosen is None:
            return self
        new = {old: place for place, old in enumerate(places)}
        kept = [i for i, row in enumerate(self.rows) if row in new]
        if not kept:
            return Picked()
        index = mx.array(kept)
        return Picked(
            [new[self.rows[i]] for i in kept],
            self.chosen[index],
            None if self.top_ids is None else self.top_ids[index],
            None if self.top_values is None else self.top_values[index],
        )

    def by_row(self, tokens: Sequence[int], tops: Sequence[int | None]) -> dict[int, TokenLogprob]:
        """Row → its token's log probability, with as many alternatives as it asked for."""
        if self.chosen is None:
            return {}
        chosen: list[float] = self.chosen.tolist()
        ids = self.top_ids.tolist() if self.top_ids is not None else [[]] * len(chosen)
        values = self.top_values.tolist() if self.top_values is not None else [[]] * len(chosen)
        return {
            row: TokenLogprob(
                tokens[row], chosen[i], best_first(ids[i], values[i])[: tops[row] or 0]
            )
            for i, row in enumerate(self.rows)
            if row < len(tokens)
        }


def choose(logits: mx.array, choosers: Sequence[Chooser]) -> tuple[mx.array, Picked]:
    """The next token of each row of logits [rows, vocabulary], and what was asked of them."""
    tokens = mx.argmax(logits, axis=-1)
    rows = [row for row, chooser in enumerate(choosers) if not chooser.sampling.greedy]
    if len(rows) == len(choosers):
        tokens = _draw(logits, choosers)
    elif rows:
        tokens[mx.array(rows)] = _draw(logits[mx.array(rows)], [choosers[row] for row in rows])
    return tokens, _pick(logits, tokens, choosers)


def _pick(logits: mx.array, tokens: mx.array, choosers: Sequence[Chooser]) -> Picked:
    rows = [row for row, chooser in enumerate(choosers) if chooser.top_logprobs is not None]
    if not rows:
        return Picked()
    index = mx.array(rows)
    logprobs = log_softmax(logits[index])
    chosen = mx.take_along_axis(logprobs, tokens[index][:, None], axis=-1)[:, 0]
    count = max(choosers[row].top_logprobs or 0 for row in rows)
    if count == 0:
        return Picked(rows, chosen)
    ids, values = top(logprobs, count)
    return Picked(rows, chosen, ids, values)


def log_softmax(logits: mx.array) -> mx.array:
    logits = logits.astype(mx.float32)
    return logits - mx.logsumexp(logits, axis=-1, keepdims=True)


def top(logprobs: mx.array, count: int) -> tuple[mx.array, mx.array]:
    """Ids and values of the `count` likeliest of each row [rows, vocabulary], in any order."""
    count = min(count, logprobs.shape[-1])
    ids = mx.argpartition(-logprobs, count - 1, axis=-1)[:, :count]
    return ids, mx.take_along_axis(logprobs, ids, axis=-1)


def best_first(ids: Sequence[int], values: Sequence[float]) -> tuple[tuple[int, float], ...]:
    pairs = zip(ids, values, strict=True)
    return tuple(sorted(pairs, key=lambda pair: (-pair[1], pair[0])))


def _draw(logits: mx.array, choosers: Sequence[Chooser]) -> mx.array:
    """Inverts each row's cumulative distribution at its draw, after temperature and cuts."""
    settings = [chooser.sampling for chooser in choosers]
    temperature = _column([s.temperature for s in settings])
    probabilities = mx.softmax(logits.astype(mx.float32) / temperature, axis=-1)
    threshold = _threshold(probabilities, settings)
    if threshold is not None:
        probabilities = mx.where(probabilities >= threshold, probabilities, 0.0)
    cumulative = mx.cumsum(probabilities, axis=-1)
    draws = _column([chooser.draw() for chooser in choosers])
    # Just below the total, so that rounding can't choose a token of probability zero.
    mark = cumulative[:, -1:] * (draws * (1.0 - 1e-6))
    return (cumulative <= mark).sum(axis=-1).astype(mx.uint32)


def _column(values: list[float]) -> mx.array:
    return mx.array(values, mx.float32)[:, None]


def _threshold(probabilities: mx.array, settings: list[Sampling]) -> mx.array | None:
    """Per row, the least probability that top_k, top_p and min_p leave in."""
    vocabulary = probabilities.shape[-1]
    cuts: list[mx.array] = []
    some_top_k = any(0 < s.top_k < vocabulary for s in settings)
    some_top_p = any(s.top_p < 1.0 for s in settings)
    if some_top_k or some_top_p:
        by_rank = -mx.sort(-probabilities, axis=-1)
        if some_top_k:
            last = [(s.top_k if 0 < s.top_k < vocabulary else vocabulary) - 1 for s in settings]
            cuts.append(mx.take_along_axis(by_rank, mx.array(last)[:, None], axis=-1))
        if some_top_p:
            # A row without top_p keeps all: no rank has a mass of 2 before it.
            top_p = _column([s.top_p if s.top_p < 1.0 else 2.0 for s in settings])
            inside = (mx.cumsum(by_rank, axis=-1) - by_rank < top_p).sum(axis=-1, keepdims=True)
            cuts.append(mx.take_along_axis(by_rank, mx.maximum(inside - 1, 0), axis=-1))
    if any(s.min_p > 0.0 for s in settings):
        min_p = _column([s.min_p for s in settings])
        cuts.append(probabilities.max(axis=-1, keepdims=True) * min_p)
    if not cuts:
        return None
    return mx.stack(cuts).max(axis=0)
