"""Requests and tokens per minute, by token buckets.

A bucket holds at most a minute's allowance and refills evenly, as in the "token bucket" of
RFC 2698. The header names and the form of their durations are OpenAI's.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from mlxsrv.api.scopes import HeaderList, adding_headers, state_of
from mlxsrv.config.settings import ApiSettings
from mlxsrv.core.errors import RateLimited

Clock = Callable[[], float]

MINUTE = 60.0
MAX_IDENTITIES = 10_000
ROUNDING = 1e-6
"""Waiting exactly as long as was asked must suffice in spite of floating-point rounding."""


@dataclass(slots=True)
class Bucket:
    """`level` may be negative: what a request generated is only known afterwards."""

    capacity: float
    level: float
    at: float

    def refill(self, now: float) -> None:
        gained = max(0.0, now - self.at) * self.capacity / MINUTE
        self.level = min(self.capacity, self.level + gained)
        self.at = max(self.at, now)

    def seconds_until(self, level: float) -> float:
        return max(0.0, (level - self.level) * MINUTE / self.capacity)


class RateLimiter:
    """Allowances per identity (a key, or a peer's address where there are no keys)."""

    def __init__(
        self,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        *,
        clock: Clock = time.monotonic,
        max_identities: int = MAX_IDENTITIES,
    ) -> None:
        limits = {"requests": requests_per_minute, "tokens": tokens_per_minute}
        self._limits = {what: float(n) for what, n in limits.items() if n is not None}
        self._clock = clock
        self._max_identities = max_identities
        self._buckets: OrderedDict[str, dict[str, Bucket]] = OrderedDict()

    @classmethod
    def of(cls, api: ApiSettings) -> RateLimiter:
        return cls(api.max_requests_per_minute, api.max_tokens_per_minute)

    @property
    def enabled(self) -> bool:
        return bool(self._limits)

    def admit(self, identity: str, tokens: int = 0) -> None:
        """Takes one request and `tokens` prompt tokens, or nothing at all.

        A request larger than a whole minute's tokens waits for a full bucket rather than for
        ever. Raises RateLimited with the seconds to wait.
        """
        buckets = self._refilled(identity)
        costs = {"requests": 1.0, "tokens": float(tokens)}
        wait, what = 0.0, ""
        for name, bucket in buckets.items():
            needed = min(max(costs[name], 1.0), bucket.capacity)
            if bucket.level < needed - ROUNDING and bucket.seconds_until(needed) > wait:
                wait, what = bucket.seconds_until(needed), name
        if wait > 0:
            limit = int(self._limits[what])
            raise RateLimited(
                f"Rate limit of {limit} {what} per minute reached; try again in {duration(wait)}",
                retry_after=wait,
            )
        for name, bucket in buckets.items():
            bucket.level -= costs[name]

    def charge(self, identity: str, tokens: int) -> None:
        """Takes tokens that were generated meanwhile, into debt if need be."""
        bucket = self._refilled(identity).get("tokens")
        if bucket is not None:
            bucket.level -= tokens

    def headers(self, identity: str) -> dict[str, str]:
        """OpenAI's `x-ratelimit-*` headers; empty without limits."""
        found: dict[str, str] = {}
        now = self._clock()
        known = self._buckets.get(identity, {})
        for name, capacity in self._limits.items():
            bucket = known.get(name) or Bucket(capacity, capacity, now)
            bucket.refill(now)
            found[f"x-ratelimit-limit-{name}"] = str(int(capacity))
            found[f"x-ratelimit-remaining-{name}"] = str(max(0, int(bucket.level + ROUNDING)))
            found[f"x-ratelimit-reset-{name}"] = duration(bucket.seconds_until(capacity))
        return found

    def _refilled(self, identity: str) -> dict[str, Bucket]:
        now = self._clock()
        buckets = self._buckets.get(identity)
        if buckets is None:
            buckets = {name: Bucket(n, n, now) for name, n in self._limits.items()}
            self._buckets[identity] = buckets
            if len(self._buckets) > self._max_identities:
                # The longest unused has refilled most, so forgetting it forgives least.
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(identity)
        for bucket in buckets.values():
            bucket.refill(now)
        return buckets


def duration(seconds: float) -> str:
    """As OpenAI writes it: `120ms`, `8.64s`, `6m0s`."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    if seconds < MINUTE:
        return f"{seconds:.2f}".rstrip("0").rstrip(".") + "s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest}s"


def identity_of(scope: Scope) -> str:
    """Whose allowance a request uses: what the auth middleware found, else the peer."""
    known = state_of(scope).get("identity")
    if known is not None:
        return str(known)
    client = scope.get("client")
    return f"peer:{client[0]}" if client else "peer:"


def admit(request: Request, tokens: int = 0) -> None:
    """For handlers, once the model is known: counts the request. Raises RateLimited."""
    limiter: RateLimiter = request.app.state.services.limiter
    limiter.admit(identity_of(request.scope), tokens)


def charge(request: Request, tokens: int) -> None:
    """For handlers: counts tokens that were generated."""
    limiter: RateLimiter = request.app.state.services.limiter
    limiter.charge(identity_of(request.scope), tokens)


async def rate_limited(request: Request) -> None:
    """Dependency for routes that use no model. Raises RateLimited."""
    admit(request)


class RateHeaders:
    """Middleware: the allowance that is left, on every answer."""

    def __init__(self, app: ASGIApp, limiter: RateLimiter) -> None:
        self.app = app
        self.limiter = limiter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        def headers() -> HeaderList:
            found = self.limiter.headers(identity_of(scope))
            return [(name.encode(), value.encode()) for name, value in found.items()]

        await self.app(scope, receive, adding_headers(send, headers))
