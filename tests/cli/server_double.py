"""A server that answers like ours, to see what the commands make of its answers."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODELS = [
    {
        "id": "org/chat",
        "type": "chat",
        "state": "loaded",
        "backend": "torch",
        "memory_bytes": 2_500_000_000,
        "context_length": 4096,
        "requests": 3,
        "ttl": 300,
        "pin": True,
    },
    {"id": "plain", "type": "completion", "state": "available"},
    {
        "id": "pirate",
        "type": "chat",
        "parent": "org/chat",
        "state": "loaded",
        "backend": "torch",
        "memory_bytes": 4_200_000,
        "context_length": 4096,
        "idle_seconds": 12.3,
    },
]
MEMORY = {
    "budget_bytes": 16_000_000_000,
    "held": {"weights": 2_504_200_000, "cache": 0, "prefix_cache": 90_000_000},
}


class ServerDouble:
    """`pieces` is every answer; `bodies` what was asked; `key` is wanted where it is set.

    Clearing `go_on` holds every answer after its pieces, as a slow model would.
    """

    def __init__(self) -> None:
        self.url = ""
        self.key: str | None = None
        self.pieces = ["Hel", "lo ", "wörld"]
        self.end = b"data: [DONE]\n\n"
        self.go_on = threading.Event()
        self.go_on.set()
        self.bodies: list[tuple[str, dict[str, Any]]] = []


@contextmanager
def running() -> Iterator[ServerDouble]:
    double = ServerDouble()

    class Handler(_Handler):
        state = double

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    double.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield double
    finally:
        double.go_on.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    state: ServerDouble

    def do_GET(self) -> None:
        if self.path == "/health":
            self._answer(200, {"status": "ok", "version": "1.2.3", "backend": "torch"})
        elif self.state.key and self.headers["Authorization"] != f"Bearer {self.state.key}":
            self._answer(401, {"error": {"message": "Wrong key."}})
        else:
            self._answer(200, {"object": "list", "data": MODELS, "memory": MEMORY})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.state.bodies.append((self.path, body))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.wfile.write(b": keep-alive\n\n")
        for piece in self.state.pieces:
            chat = {"index": 0, "delta": {"content": piece}}
            plain = {"index": 0, "text": piece}
            choice = chat if "chat" in self.path else plain
            event = json.dumps({"choices": [choice]})
            self.wfile.write(f"data: {event}\n\n".encode())
        self.state.go_on.wait()
        with contextlib.suppress(OSError):
            self.wfile.write(self.state.end)

    def _answer(self, status: int, body: object) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""
