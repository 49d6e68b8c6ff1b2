"""The line between the serving process and the supervisor that restarts it.

A Unix socket pair: the supervisor's first message says how often it has restarted and gives
the listening sockets of the process before; the serving process answers with its sockets, and
says when it is ready. The end of the line tells each side that the other is gone.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

VARIABLE = "_MLXSRV_SUPERVISOR"
"""Environment variable that holds the serving process's end of the line, a file descriptor."""

DEVICE_DIED = 70
"""Exit code of a serving process whose device thread died (EX_SOFTWARE of sysexits.h)."""

ORPHAN_SECONDS = 2.0
"""What running requests get when the supervisor was killed."""

MAX_LISTENERS = 64
MESSAGE_BYTES = 65536

Listening = Sequence[tuple[socket.socket, str | None]]


def post(
    line: socket.socket, message: Mapping[str, object], sockets: Sequence[socket.socket] = ()
) -> None:
    """One line of JSON, and the sockets that go with it. Raises OSError when nobody listens."""
    data = json.dumps(message).encode() + b"\n"
    if sockets:
        socket.send_fds(line, [data], [one.fileno() for one in sockets])
    else:
        line.sendall(data)


def collect(line: socket.socket) -> tuple[list[dict[str, Any]], list[socket.socket]]:
    """The messages that have arrived, at least one, and their sockets; none at the line's end.

    Messages are far smaller than the socket's buffer, so each arrives whole.
    """
    data, descriptors, _, _ = socket.recv_fds(line, MESSAGE_BYTES, MAX_LISTENERS)
    sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
    for one in sockets:
        one.set_inheritable(False)
    return [json.loads(text) for text in data.splitlines()], sockets


class Link:
    """The serving process's end."""

    def __init__(self, line: socket.socket) -> None:
        """Waits for the supervisor's first message."""
        messages, sockets = collect(line)
        first: dict[str, Any] = messages[0] if messages else {"restarts": 0, "kinds": []}
        self.restarts: int = first["restarts"]
        self.listening: Listening = list(zip(sockets, first["kinds"], strict=True))
        """The sockets, with the kind whose port each is, that are listening already."""
        self._line = line
        threading.Thread(target=self._watch, name="supervisor", daemon=True).start()

    def hold(self, listening: Listening) -> None:
        """Has the supervisor keep these sockets open for the next process."""
        kinds = [kind for _, kind in listening]
        self._post({"kinds": kinds}, [one for one, _ in listening])

    def ready(self) -> None:
        self._post({"ready": True})

    def release(self) -> None:
        """Asks not to be restarted, whatever happens."""
        self._post({"supervise": False})

    def _post(self, message: Mapping[str, object], sockets: Sequence[socket.socket] = ()) -> None:
        try:
            post(self._line, message, sockets)
        except OSError:
            return  # the supervisor is gone, which the watching thread sees to

    def _watch(self) -> None:
        """Ends this process when the supervisor is gone, even where the event loop is stuck."""
        try:
            while self._line.recv(1):
                pass
        except OSError:
            pass  # a line that broke is a line that ended
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(ORPHAN_SECONDS)
        os._exit(1)


def attach(environ: MutableMapping[str, str] = os.environ) -> Link | None:
    """The line to this process's supervisor, once; None where it has none.

    Starts a thread, so call it after anything that executes the process again.
    """
    descriptor = environ.pop(VARIABLE, None)
    if descriptor is None:
        return None
    line = socket.socket(fileno=int(descriptor))
    line.set_inheritable(False)
    return Link(line)
