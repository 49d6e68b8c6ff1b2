"""A process that runs `mlxsrv.server` with the small application of the API tests.

Usage: `python -m tests.toy_server ADDRESS [OPTION=VALUE…]`, options being settings of `[api]`
and `fail=yes`, `load_seconds=N` for the application itself.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from typing import cast

from starlette.types import ASGIApp

from mlxsrv.api.log import setup_logging
from mlxsrv.api.middleware import wrap
from mlxsrv.api.services import Services
from mlxsrv.config.settings import ApiSettings
from mlxsrv.core.errors import LoadError
from mlxsrv.server import listen, run
from mlxsrv.supervised import attach
from tests.api.shell import StandInRegistry, make_app, make_services

OWN = frozenset({"fail", "load_seconds"})


class Toy:
    """What the composition root would build."""

    def __init__(self, services: Services, options: dict[str, str]) -> None:
        self.services = services
        self.options = options
        self.app: ASGIApp = wrap(make_app(services), services)

    async def start(self) -> None:
        print(f"pid {os.getpid()}", flush=True)
        registry = cast(StandInRegistry, self.services.registry)
        registry.now = "loading"
        await asyncio.sleep(float(self.options.get("load_seconds", 0)))
        if "fail" in self.options:
            raise LoadError("demo: no config.json in /models/demo")
        registry.now = "ready"

    async def failed(self) -> None:
        await asyncio.Event().wait()

    async def drain(self, deadline: float) -> None:
        print("drained", flush=True)

    async def stop(self) -> None:
        print("stopped", flush=True)


def main(arguments: Sequence[str]) -> int:
    address, *pairs = arguments
    options = dict(pair.split("=", 1) for pair in pairs)
    own = {name: value for name, value in options.items() if name in OWN}
    given = {name: value for name, value in options.items() if name not in OWN}
    api = ApiSettings.model_validate({"address": address, **given})
    setup_logging("info")
    try:
        link = attach()
        listeners = listen(api, link)
    except OSError as error:
        print(f"mlxsrv: error: {error.strerror}", file=sys.stderr)
        return 1
    services = make_services(api=api)
    return run(services.settings, listeners, lambda: Toy(services, own), link)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
