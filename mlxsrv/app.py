"""The composition root: from settings to a running application."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from dataclasses import dataclass

from fastapi import FastAPI
from starlette.types import ASGIApp

from mlxsrv import __version__
from mlxsrv.api import (
    cakeimage,
    chat,
    completions,
    embeddings,
    errors,
    health,
    images,
    lora,
    metrics,
    models,
    rerank,
    speech,
    tokenize,
    transcriptions,
    voices,
)
from mlxsrv.api.limits import RateLimiter
from mlxsrv.api.middleware import wrap
from mlxsrv.api.services import Services
from mlxsrv.backends.device import Device
from mlxsrv.backends.hub import Report
from mlxsrv.backends.importing import import_library
from mlxsrv.backends.load import at_thread_exit
from mlxsrv.backends.select import choose
from mlxsrv.config.settings import Settings
from mlxsrv.core.errors import ShuttingDown
from mlxsrv.registry import Registry
from mlxsrv.web import page

DESCRIPTION = "A local, OpenAI-compatible API for the models on this machine."

ROUTERS = (
    chat.router,
    completions.router,
    embeddings.router,
    rerank.router,
    transcriptions.router,
    speech.router,
    voices.router,
    images.router,
    cakeimage.router,
    models.router,
    lora.router,
    tokenize.router,
    health.router,
    metrics.router,
    page.router,
)


@dataclass(slots=True)
class MlxsrvApplication:
    """The parts of a server and their life; see `mlxsrv.server.Application`."""

    app: ASGIApp
    services: Services
    registry: Registry
    device: Device
    import_library: Callable[[], None]
    report: Report | None = None

    async def start(self) -> None:
        self.device.start()
        # Before any model's load, which would import it too, with the collector at work.
        importing = self.device.call(self.import_library, kind="import")
        await asyncio.gather(importing, self.registry.start(self.report))

    async def failed(self) -> None:
        await self.device.died()

    async def drain(self, deadline: float) -> None:
        self.registry.cancel_all(ShuttingDown("The server is shutting down"))

    async def stop(self) -> None:
        await self.registry.stop()
        await self.device.stop()


def build(settings: Settings, report: Report | None = None) -> MlxsrvApplication:
    """Puts the parts together; nothing runs yet. Raises ConfigError.

    `report` hears of downloads that the start needs.
    """
    choice = choose(settings.engine.backend)
    device = Device(at_exit=functools.partial(at_thread_exit, choice.name))
    registry = Registry(settings, device, choice)
    services = Services(
        settings=settings,
        registry=registry,
        device=device,
        limiter=RateLimiter.of(settings.api),
        backend=choice.name,
        backend_reason=choice.reason,
    )
    return MlxsrvApplication(
        wrap(routes(services), services),
        services,
        registry,
        device,
        functools.partial(import_library, choice.name),
        report,
    )


def routes(services: Services) -> FastAPI:
    """The routes, without the layers around them."""
    app = FastAPI(
        title="mlxsrv", version=__version__, description=DESCRIPTION, redirect_slashes=False
    )
    app.state.services = services
    errors.install(app)
    for router in ROUTERS:
        app.include_router(router)
    return app
