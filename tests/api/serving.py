"""Real tiny models behind the whole application, on a free loopback port."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn
from openai import OpenAI

from mlxsrv.api.services import Services
from mlxsrv.app import MlxsrvApplication, build
from mlxsrv.config.settings import (
    ApiSettings,
    EngineSettings,
    HubSettings,
    MemorySettings,
    ModelSettings,
    Settings,
)


@dataclass(frozen=True)
class Server:
    url: str
    services: Services
    client: httpx.Client

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @contextmanager
    def openai(self) -> Iterator[OpenAI]:
        with OpenAI(base_url=f"{self.url}/v1", api_key="unused", max_retries=0) as client:
            yield client

    def post(self, path: str, body: Any, **options: Any) -> httpx.Response:
        return self.client.post(self.url + path, json=body, **options)

    def get(self, path: str) -> httpx.Response:
        return self.client.get(self.url + path)

    @property
    def running(self) -> int:
        """Sequences that hold a slot now."""
        meters = self.services.registry.text_meters()
        return sum(one.running + one.queue_length for one in meters)


@contextmanager
def serving(
    backend: str,
    models: Mapping[str, ModelSettings],
    *,
    hub: HubSettings | None = None,
    memory: MemorySettings | None = None,
    **api: Any,
) -> Iterator[Server]:
    """Serves `models` under their names until the block ends."""
    settings = Settings(
        api=ApiSettings(models=dict(models), **api),
        engine=EngineSettings.model_validate({"backend": backend}),
        hub=hub or HubSettings(),
        memory=memory or MemorySettings(),
    )
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        runner = _Runner(build(settings), bound)
        thread = threading.Thread(target=runner.main)
        thread.start()
        try:
            runner.ready.wait()
            assert runner.server is not None, "the server did not start"
            bound.listen()
            host, port = bound.getsockname()
            with httpx.Client(timeout=60) as client:
                yield Server(f"http://{host}:{port}", runner.application.services, client)
        finally:
            if runner.server is not None:
                runner.server.should_exit = True
            thread.join()


class _Runner:
    """One event loop on a thread of its own, with the device that belongs to it."""

    def __init__(self, application: MlxsrvApplication, bound: socket.socket) -> None:
        self.application = application
        self.bound = bound
        self.ready = threading.Event()
        self.server: uvicorn.Server | None = None

    def main(self) -> None:
        try:
            asyncio.run(self._serve())
        finally:
            self.ready.set()

    async def _serve(self) -> None:
        try:
            await self.application.start()
            config = uvicorn.Config(
                self.application.app,
                lifespan="off",
                http="httptools",
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=1,
            )
            self.server = uvicorn.Server(config)
            self.ready.set()
            await self.server.serve(sockets=[self.bound])
        finally:
            await self.application.stop()
