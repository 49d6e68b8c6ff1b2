"""What a request used, and how fast it went."""

from __future__ import annotations

from collections.abc import Iterable

from mlxsrv.api.schemas.answers import Timings, Usage
from mlxsrv.core.text import TextDelta
from mlxsrv.engines.text import TextStream, Timing


class Tally:
    """Counts the tokens of a request's choices while they are generated."""

    def __init__(self, prompt_tokens: int) -> None:
        self.prompt_tokens = prompt_tokens
        self._generated: dict[int, int] = {}
        self._reasoning: dict[int, int] = {}

    def see(self, deltas: Iterable[TextDelta]) -> None:
        for delta in deltas:
            self._generated[delta.choice] = delta.generated
            self._reasoning[delta.choice] = delta.reasoning_tokens

    @property
    def completion_tokens(self) -> int:
        return sum(self._generated.values())

    def usage(self, stream: TextStream | None) -> Usage:
        """A prompt counts once, however many choices it has."""
        cached = stream.cached_tokens if stream is not None else 0
        generated = self.completion_tokens
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": generated,
            "total_tokens": self.prompt_tokens + generated,
            "prompt_tokens_details": {"cached_tokens": cached},
            "completion_tokens_details": {"reasoning_tokens": sum(self._reasoning.values())},
        }

    def timings(self, stream: TextStream | None) -> Timings:
        """Prompt processing ends, and decoding begins, with the first token of all."""
        times = stream.timing if stream is not None else Timing(submitted=0.0)
        first = times.first_token
        prompt = waited = decode = 0.0
        if first is not None:
            prompt = first - (times.started if times.started is not None else times.submitted)
            waited = first - times.submitted
            decode = (times.last_token or first) - first
        generated = self.completion_tokens
        return {
            "prompt_n": self.prompt_tokens,
            "prompt_ms": _milliseconds(prompt),
            "prompt_per_second": _rate(self.prompt_tokens, prompt),
            "predicted_n": generated,
            "predicted_ms": _milliseconds(decode),
            "predicted_per_second": _rate(max(0, generated - 1), decode),
            "time_to_first_token_ms": _milliseconds(waited),
        }


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)


def _rate(count: int, seconds: float) -> float:
    return round(count / seconds, 2) if seconds > 0 else 0.0
