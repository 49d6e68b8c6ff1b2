"""`scripts/fuzz`: many hostile requests against a server of its own, and a summary."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from hypothesis import HealthCheck, Phase, given, seed, settings

from tests import tiny_models
from tests.e2e.process import Process, serve
from tests.faults import fuzzing

GOOD = {"prompt": "The quick brown", "max_tokens": 12, "temperature": 0, "logprobs": 2}
BATCH = 100
HANG_SECONDS = 60.0
SLOWEST = 5


@dataclass
class Tally:
    """What the answers were."""

    statuses: Counter[str] = field(default_factory=Counter)
    slowest: list[tuple[float, str]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    asked: int = 0
    good: int = 0

    def add(self, request: fuzzing.Request, status: str, seconds: float) -> None:
        self.asked += 1
        self.statuses[status] += 1
        self.slowest.append((seconds, shown(request)))
        self.slowest = sorted(self.slowest, reverse=True)[:SLOWEST]


def shown(request: fuzzing.Request, limit: int = 300) -> str:
    return f"{request.method} {request.path[:80]} {request.headers} {request.body[:limit]!r}"


def ask(client: httpx.Client, url: str, request: fuzzing.Request, tally: Tally) -> None:
    started = time.perf_counter()
    problem: str | None
    try:
        answer = fuzzing.send(client, url, request)
    except httpx.TransportError as error:
        status, problem = type(error).__name__, f"no answer: {error!r}"
    else:
        status, problem = str(answer.status_code), fuzzing.fault(request, answer)
        if problem:
            problem += f" in {answer.text[:300]!r}"
    tally.add(request, status, time.perf_counter() - started)
    if problem:
        tally.violations.append(f"{problem}: {shown(request, 4000)}")


def good(client: httpx.Client, url: str) -> Any:
    answer = client.post(f"{url}/v1/completions", json=GOOD)
    return answer.json()["choices"] if answer.is_success else answer.text


def attack(server: Process, count: int, start: int) -> Tally:
    tally = Tally()
    with httpx.Client(timeout=HANG_SECONDS) as client:
        before = good(client, server.url)

        @seed(start)
        @settings(
            max_examples=count,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(fuzzing.requests())
        def one(request: fuzzing.Request) -> None:
            ask(client, server.url, request, tally)
            if tally.asked % BATCH == 0:
                tally.good += 1
                if (now := good(client, server.url)) != before:
                    tally.violations.append(f"the good request changed: {now}")

        one()
    return tally


def report(tally: Tally, seconds: float, running: float, restarts: float) -> None:
    print(f"{tally.asked} requests in {seconds:.0f} s, {tally.good} good ones between them")
    print("statuses  ", dict(sorted(tally.statuses.items())))
    print(f"at the end {running:.0f} running sequences, {restarts:.0f} restarts")
    for took, request in tally.slowest:
        print(f"slow       {took:.2f} s  {request}")
    for violation in tally.violations:
        print(f"VIOLATION  {violation}")
    print(f"violations {len(tally.violations)}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backend", default="torch", choices=["mlx", "torch"])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        # A short context keeps the answers short that nothing else bounds.
        model = tiny_models.build(home / "tiny", shape=tiny_models.Shape(context=64))
        flags = ("--backend", args.backend, "--log-level", "error")
        with serve(home, str(model), *flags) as server:
            started = time.perf_counter()
            tally = attack(server, args.requests, args.seed)
            seconds = time.perf_counter() - started
            running = server.metric("mlxsrv_running_sequences")
            report(tally, seconds, running, server.metric("mlxsrv_restarts_total"))
        if "Traceback" in server.output:
            tally.violations.append("a traceback in the log")
            print(f"VIOLATION  a traceback in the log:\n{server.output[-4000:]}")
    return 1 if tally.violations or running else 0


if __name__ == "__main__":
    sys.exit(main())
