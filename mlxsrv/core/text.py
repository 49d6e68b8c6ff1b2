"""The nouns of text generation, shared by the API, the engine and both backends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

FinishReason = Literal["stop", "length"]


LEAST_PENALTY = 0.01
"""Least repetition penalty: logits divided by less could overflow in half precision."""

LEAST_TEMPERATURE = 1e-5
"""Below it the likeliest token always wins, and float32 logits divided by it overflow."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen.

    Penalties follow OpenAI (`frequency`, `presence`: subtracted from the logits, counted over
    the generated tokens) and CTRL, arXiv:1909.05858 (`repetition`: divides positive and
    multiplies negative logits of every token seen so far, prompt included).
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int = 0

    @property
    def greedy(self) -> bool:
        return self.temperature < LEAST_TEMPERATURE

    @property
    def edits_logits(self) -> bool:
        return bool(
            self.logit_bias
            or self.repetition_penalty != 1.0
            or self.frequency_penalty
            or self.presence_penalty
        )


@dataclass(frozen=True, slots=True)
class Sequence:
    """One sequence to continue.

    `generated` holds what was already generated before a restart of the batch: it is fed
    again, but counts as output for the penalties, the sampling stream and `max_tokens`.
    With `keep`, its state comes back with its last token. `adapter` names the LoRA adapter
    it runs with, if any.
    """

    uid: int
    prompt: tuple[int, ...]
    max_tokens: int
    sampling: Sampling = Sampling()
    stop_ids: frozenset[int] = frozenset()
    top_logprobs: int | None = None
    generated: tuple[int, ...] = ()
    keep: bool = False
    adapter: str | None = None

    @property
    def most_tokens(self) -> int:
        """How long it can get, prompt included."""
        return len(self.prompt) + self.max_tokens

    def finish(self, token: int, generated: int) -> FinishReason | None:
        """Whether `token` ends it, being the `generated`-th one."""
        if token in self.stop_ids:
            return "stop"
        return "length" if generated >= self.max_tokens else None


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token's log probability and the likeliest alternatives at its place, best first."""

    id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Kept:
    """A sequence's computed state, for prompts that begin like it. Only its backend reads it.

    `tokens` are those it holds. `can_be_cut` says that any beginning of it is usable too.
    `adapter` is the LoRA adapter it was computed with. `arrays` counts the buffers it holds,
    which Metal limits apart from their bytes.
    """

    tokens: tuple[int, ...]
    state: object
    nbytes: int
    can_be_cut: bool
    adapter: str | None = None
    arrays: int = 0


@dataclass(frozen=True, slots=True)
class Prefix:
    """A kept state, of which the first `length` tokens are to be reused."""

    state: object
    length: int


@dataclass(frozen=True, slots=True)
class TokenOut:
    """What one step made of one sequence: a token, or the error that ended it.

    `kept` comes with the last token of a sequence that was to be kept.
    """

    uid: int
    token: int = -1
    logprob: TokenLogprob | None = None
    finish: FinishReason | None = None
    error: Exception | None = None
    kept: Kept | None = None


@dataclass(frozen=True, slots=True)
class TextRequest:
    """Some prompts to continue, `n` choices each; choice `p * n + i` is prompt p's i-th.

    `prompts` are token ids. `max_tokens` bounds each choice, and so does the model's context.
    `seed` None draws one. `reasoning` names the tags that enclose
    what a model thinks, `thinking` says that the prompt has opened them already.
    `top_logprobs` None asks for no log probabilities.
    """

    prompts: tuple[tuple[int, ...], ...]
    max_tokens: int
    sampling: Sampling = Sampling()
    n: int = 1
    seed: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    top_logprobs: int | None = None
    reasoning: tuple[str, str] | None = None
    thinking: bool = False
    starts_text: bool = False
    adapter: str | None = None


@dataclass(frozen=True, slots=True)
class TextDelta:
    """What one step, or several, added to one choice.

    `tokens` are those whose text is in this delta, when log probabilities were asked for.
    `generated` and `reasoning_tokens` count from the choice's start.
    """

    choice: int
    content: str = ""
    reasoning: str = ""
    tokens: tuple[TokenLogprob, ...] = ()
    finish: FinishReason | None = None
    generated: int = 0
    reasoning_tokens: int = 0
