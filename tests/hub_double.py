"""A Hugging Face hub on loopback: real HTTP, with the failures a real one has."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE_BYTES = 1000
"""Files from this size on are stored as large files, named by their SHA-256."""


class HubDouble:
    """Serves `repos` (id → file name → content) under `url`, and records what was asked.

    `gated` ids want `token`. `cut_after` breaks the next answers after so many bytes each, one
    entry per answer that is long enough. `corrupt` names files that arrive with other bytes.
    `pause` is how many seconds every thousand bytes of a large file take.
    """

    def __init__(self, repos: Mapping[str, Mapping[str, bytes]]) -> None:
        self.repos = repos
        self.gated: set[str] = set()
        self.corrupt: set[str] = set()
        self.token = "hf_secret"
        self.cut_after: list[int] = []
        self.pause = 0.0
        self.requests: list[tuple[str, str, str | None]] = []
        self.url = ""

    def siblings(self, repo: str) -> list[dict[str, Any]]:
        return [_sibling(name, content) for name, content in self.repos[repo].items()]


def _sibling(name: str, content: bytes) -> dict[str, Any]:
    blob = b"blob %d\0" % len(content) + content
    found: dict[str, Any] = {
        "rfilename": name,
        "size": len(content),
        "blobId": hashlib.sha1(blob).hexdigest(),
    }
    if len(content) >= LARGE_BYTES:
        found["lfs"] = {
            "sha256": hashlib.sha256(content).hexdigest(),
            "size": len(content),
            "pointerSize": 134,
        }
    return found


@contextmanager
def running(repos: Mapping[str, Mapping[str, bytes]]) -> Iterator[HubDouble]:
    hub = HubDouble(repos)

    class Handler(_Handler):
        double = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    double: HubDouble
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.double.requests.append(("GET", path, self.headers.get("Range")))
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            self._model("/".join(parts[2:4]), "/".join(parts[5:]))
        elif len(parts) > 4 and parts[2] == "resolve":
            self._file("/".join(parts[:2]), "/".join(parts[4:]))
        else:
            self._refuse(404, "EntryNotFound")

    do_HEAD = do_GET

    def _model(self, repo: str, revision: str) -> None:
        if repo not in self.double.repos:
            self._refuse(404, "RepoNotFound")
        elif revision not in {"main", COMMIT, "v1.0"}:
            self._refuse(404, "RevisionNotFound")
        elif self._locked(repo):
            self._refuse(403, "GatedRepo")
        else:
            body = {
                "_id": "1",
                "id": repo,
                "sha": COMMIT,
                "private": False,
                "tags": [],
                "downloads": 0,
                "likes": 0,
                "siblings": self.double.siblings(repo),
            }
            self._answer(json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _file(self, repo: str, name: str) -> None:
        content = self.double.repos.get(repo, {}).get(name)
        if content is None:
            self._refuse(404, "EntryNotFound")
            return
        if self._locked(repo):
            self._refuse(403, "GatedRepo")
            return
        if name in self.double.corrupt:
            content = bytes(len(content))
        sibling = _sibling(name, content)
        etag = sibling.get("lfs", {}).get("sha256") or sibling["blobId"]
        self._answer(content, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})

    def _locked(self, repo: str) -> bool:
        wanted = f"Bearer {self.double.token}"
        return repo in self.double.gated and self.headers.get("Authorization") != wanted

    def _answer(self, content: bytes, headers: Mapping[str, str]) -> None:
        begin = 0
        given = self.headers.get("Range")
        if given:
            begin = int(given.removeprefix("bytes=").partition("-")[0])
        self.send_response(206 if given else 200)
        for name, value in headers.items():
            self.send_header(name, value)
        if given:
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        body = content[begin:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cuts = self.double.cut_after
        if cuts and len(body) > cuts[0] and len(content) >= LARGE_BYTES:
            body = body[: cuts.pop(0)]
            self.close_connection = True
        if self.command == "GET":
            self._write(body)

    def _write(self, body: bytes) -> None:
        if len(body) < LARGE_BYTES or not self.double.pause:
            self.wfile.write(body)
            return
        with contextlib.suppress(OSError):  # whoever asked may not wait for the end
            for start in range(0, len(body), LARGE_BYTES):
                self.wfile.write(body[start : start + LARGE_BYTES])
                time.sleep(self.double.pause)

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""
