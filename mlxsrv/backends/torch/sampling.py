"""Choosing the next tokens of a batch with torch tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mlxsrv.backends.draws import Draws
from mlxsrv.core.text import Sampling
from mlxsrv.core.text import Sequence as TextSequence


class Chooser:
    """One sequence's part in sampling: its settings, its draws, the tokens it has seen."""

    def __init__(self, sequence: TextSequence) -> None:
        self.sampling = sequence.sampling
        self.top_logprobs = sequence.top_logprobs
        self._draws = Draws(sequence.sampling.seed, skip=len(sequence.generated))
        self._seen = set(sequence.prompt + sequence.generated)
        self._counts: dict[int, int] = {}
        for token in sequence.generated:
            self._counts[token] = self._counts.get(token, 0) + 1

    def draw(self) -> float:
        return self._draws.next()

    def took(self, token: int) -> None:
        if self.sampling.edits_logits:
            self._seen.add(token)
            self._counts[token] = self._counts.get(token, 0) + 1

    def edit(self, logits: torch.Tensor) -> None:
        """Applies penalties and bias to one row of logits [vocabulary], in place."""
        sampling = self.sampling
        if sampling.repetition_penalty != 1.0:
            seen = torch.tensor(sorted(self._seen), device=logits.device)
            values, penalty = logits[seen], sampling.repetition_penalty
            logits[seen] = torch.where(values > 0, values / penalty, values * penalty)
        if self._counts and (sampling.frequency_penalty or sampling.presence_penalty):
            ids = torch.tensor(list(self._counts), device=logits.device)
            counts = torch.tensor(list(self._counts.values()), device=logits.device)
            logits[ids] -= counts * sampling.frequency_penalty + sampling.presence_penalty
        if sampling.logit_bias:
            ids = torch.tensor(list(sampling.logit_bias), device=logits.device)
            values = torch.tensor(list(sampling.logit_bias.values()), device=logits.device)
            logits[ids] += values.to(logits.dtype)


def choose(logits: torch.Tensor, choosers: Sequence[Chooser]) -> list[int]:
    """The next token of each row of logits [rows, vocabulary]."""
    tokens: list[int] = logits.argmax(dim=-1).tolist()
    rows = [row for row, chooser in enumerate(choosers) if not chooser.sampling.greedy]
    if rows:
        drawn = _draw(logits[rows], [choosers[row] for row in rows])
        for row, token in zip(rows, drawn, strict=True):
            tokens[row] = token
    return tokens


def _draw(logits: torch.Tensor, choosers: Sequence[Chooser]) -> list[int]:
    """Inverts each row's cumulative distribution at its draw, after temperature and cuts."""
    settings = [chooser.sampling for chooser in choosers]
    temperature = _column(logits, [s.temperature for s in settings])
    probabilities = torch.softmax(logits.float() / temperature, dim=-1)
    threshold = _threshold(probabilities, settings)
    if threshold is not None:
        probabilities = torch.where(probabilities >= threshold, probabilities, 0.0)
    cumulative = probabilities.cumsum(dim=-1)
    draws = _column(logits, [chooser.draw() for chooser in choosers])
    # Just below the total, so that rounding can't choose a token of probability zero.
    mark = cumulative[:, -1:] * (draws * (1.0 - 1e-6))
    tokens: list[int] = (cumulative <= mark).sum(dim=-1).tolist()
    return tokens


def _column(like: torch.Tensor, values: list[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32, device=like.device)[:, None]


def _threshold(probabilities: torch.Tensor, settings: list[Sampling]) -> torch.Tensor | None:
    """Per row, the least probability that top_k, top_p and min_p leave in."""
    vocabulary = probabilities.shape[-1]
    cuts: list[torch.Tensor] = []
    some_top_k = any(0 < s.top_k < vocabulary for s in settings)
    some_top_p = any(s.top_p < 1.0 for s in settings)
    if some_top_k or some_top_p:
        by_rank = probabilities.sort(dim=-1, descending=True).values
        if some_top_k:
            last = [(s.top_k if 0 < s.top_k < vocabulary else vocabulary) - 1 for s in settings]
            cuts.append(by_rank.gather(1, torch.tensor(last, device=by_rank.device)[:, None]))
        if some_top_p:
            # A row without top_p keeps all: no rank has a mass of 2 before it.
            top_p = _column(by_rank, [s.top_p if s.top_p < 1.0 else 2.0 for s in settings])
            inside = (by_rank.cumsum(dim=-1) - by_rank < top_p).sum(dim=-1, keepdim=True)
            cuts.append(by_rank.gather(1, (inside - 1).clamp(min=0)))
    if any(s.min_p > 0.0 for s in settings):
        min_p = _column(probabilities, [s.min_p for s in settings])
        cuts.append(probabilities.max(dim=-1, keepdim=True).values * min_p)
    if not cuts:
        return None
    return torch.stack(cuts).max(dim=0).values


def likeliest(logprobs: torch.Tensor, count: int) -> tuple[tuple[int, float], ...]:
    """The `count` best of one row of log probabilities [vocabulary], best first."""
    if count == 0:
        return ()
    best = logprobs.topk(min(count, logprobs.shape[-1]))
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return tuple(sorted(pairs, key=lambda pair: (-pair[1], pair[0])))
