"""What our servers say of themselves at `/metrics`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mlxsrv.bench import client
from mlxsrv.bench.client import Endpoint
from mlxsrv.bench.http1 import BrokenAnswer

LINE = re.compile(r"^(\w+)(?:\{.*\})? (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Scrape:
    """The values by name; those that differ by their labels only are added up."""

    values: dict[str, float]

    def __getitem__(self, name: str) -> float:
        """A counter has `_total` after its name. 0 where there is none."""
        return self.values.get(name, 0.0)

    def since(self, before: Scrape, name: str) -> float:
        return self[name] - before[name]


def parse(text: str) -> Scrape:
    values: dict[str, float] = {}
    for name, value in LINE.findall(text):
        values[name] = values.get(name, 0.0) + float(value)
    return Scrape(values)


async def scrape(endpoint: Endpoint) -> Scrape | None:
    """None where nobody answers."""
    try:
        return parse((await client.get(endpoint, "/metrics")).content.decode())
    except (OSError, BrokenAnswer):
        return None
