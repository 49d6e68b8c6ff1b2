"""The parent of the serving process: restarts it when it dies.

A Metal out-of-memory error aborts the process, and no handler can catch that. So `mlxsrv serve`
is two processes: this one, which imports next to nothing, and the one that serves. The
listening sockets stay open here between two lives of the child, so that clients wait in the
backlog rather than being refused.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from mlxsrv.supervised import DEVICE_DIED, VARIABLE, collect, post

SWITCH = "--no-supervise"

FIRST_DELAY = 0.5
LONGEST_DELAY = 30.0
HEALTHY_SECONDS = 60.0
"""A life this long after it was ready starts the delays from the beginning."""

MAX_FAILED_STARTS = 4
"""A server that dies so often without ever having been ready will not get better."""

FAILED = 1
INTERRUPTED = 130
STOPS = (signal.SIGTERM, signal.SIGINT)

logger = logging.getLogger(__name__)


def wanted(words: Sequence[str], environ: Mapping[str, str]) -> bool:
    """Whether `mlxsrv` with these words is to be run under a supervisor.

    What only the settings know, the child says later; see `Link.release`.
    """
    asked = next((word for word in words if not word.startswith("-")), None)
    return (
        asked == "serve"
        and VARIABLE not in environ
        and not {SWITCH, "-h", "--help", "--version"}.intersection(words)
    )


def supervise(command: Sequence[str]) -> int:
    """Runs `command` until it ends for good. Returns the exit code to end with."""
    with _Signals() as signals:
        return _Supervisor(command, signals).run()


@dataclass(frozen=True, slots=True)
class Life:
    """How a child lived. Seconds; `healthy` counts from when it was ready, None if never."""

    returncode: int
    healthy: float | None
    released: bool = False

    @property
    def died(self) -> bool:
        """Whether it ended as nobody wanted. A start that failed with a message did not."""
        if self.released or self.returncode in {0, INTERRUPTED}:
            return False
        if -self.returncode in STOPS:
            return False
        return self.returncode < 0 or self.returncode == DEVICE_DIED or self.healthy is not None


@dataclass(slots=True)
class Policy:
    """When to start a child again."""

    ever_ready: bool = False
    deaths: int = 0

    def delay(self, life: Life) -> float | None:
        """Seconds to wait before the next life, or None to give up."""
        self.ever_ready = self.ever_ready or life.healthy is not None
        if life.healthy is not None and life.healthy >= HEALTHY_SECONDS:
            self.deaths = 0
        self.deaths += 1
        if not self.ever_ready and self.deaths >= MAX_FAILED_STARTS:
            return None
        # The exponent is bounded because a float is.
        return min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(self.deaths - 1, 10))


def exit_code(returncode: int, *, stopping: bool) -> int:
    """The shell's convention for signals; a SIGTERM that was passed on is a clean end."""
    if returncode >= 0:
        return returncode
    if stopping and -returncode == signal.SIGTERM:
        return 0
    return 128 - returncode


def describe(returncode: int) -> str:
    """What a child died of, in words."""
    if returncode == DEVICE_DIED:
        return "the device thread died"
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return signal.Signals(-returncode).name
    except ValueError:
        return f"signal {-returncode}"


class _Signals:
    """Signals as bytes of a socket, so that one `select` waits for them and for the child."""

    CAUGHT = (*STOPS, signal.SIGTSTP, signal.SIGCHLD)

    def __enter__(self) -> _Signals:
        self._read, self._write = socket.socketpair()
        self._read.setblocking(False)
        self._write.setblocking(False)
        self._before_fd = signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        self._before = {n: signal.signal(n, lambda *_: None) for n in self.CAUGHT}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._before_fd)
        self._read.close()
        self._write.close()

    def wait(self, line: socket.socket | None, seconds: float | None) -> tuple[list[int], bool]:
        """The signals that came, and whether `line` has something; at most so many seconds."""
        waited = [self._read] if line is None else [self._read, line]
        readable, _, _ = select.select(waited, [], [], seconds)
        numbers = list(self._read.recv(4096)) if self._read in readable else []
        return numbers, line is not None and line in readable


@dataclass(slots=True)
class _Supervisor:
    command: Sequence[str]
    signals: _Signals
    clock: Callable[[], float] = time.monotonic
    policy: Policy = field(default_factory=Policy)
    held: list[socket.socket] = field(default_factory=list)
    kinds: list[str | None] = field(default_factory=list)
    restarts: int = 0
    stopping: bool = False

    def run(self) -> int:
        try:
            return self._run()
        finally:
            self._let_go()

    def _run(self) -> int:
        while True:
            life = self._live()
            if self.stopping or not life.died:
                return exit_code(life.returncode, stopping=self.stopping)
            delay = self.policy.delay(life)
            reason = {"reason": describe(life.returncode)}
            if delay is None:
                _log("the server keeps dying before it is ready: giving up", reason)
                return FAILED
            _log("the serving process died: restarting it", {**reason, "delay": delay})
            if self._told_to_stop(delay):
                return 0
            self.restarts += 1

    def _live(self) -> Life:
        """Starts a child and sees it through to its end."""
        line, childs = socket.socketpair()
        with line:
            with childs:
                post(line, {"restarts": self.restarts, "kinds": self.kinds}, self.held)
                child = subprocess.Popen(
                    self.command,
                    pass_fds=[childs.fileno()],
                    env={**os.environ, VARIABLE: str(childs.fileno())},
                    # Ctrl-C goes to the terminal's whole group: the child is to get it once.
                    process_group=0,
                )
            return self._watch(child, line)

    def _watch(self, child: subprocess.Popen[bytes], line: socket.socket) -> Life:
        ready: float | None = None
        released = False
        listened: socket.socket | None = line
        while child.poll() is None:
            numbers, has_news = self.signals.wait(listened, None)
            self._pass_on(numbers, child)
            if not has_news:
                continue
            messages, sockets = _news(line)
            if not messages:
                listened = None
            for message in messages:
                if "kinds" in message:
                    self._hold(sockets, message["kinds"])
                if "ready" in message:
                    ready = self.clock()
                released = released or message.get("supervise") is False
        healthy = None if ready is None else self.clock() - ready
        return Life(child.returncode, healthy, released)

    def _pass_on(self, numbers: Sequence[int], child: subprocess.Popen[bytes]) -> None:
        for number in numbers:
            if number in STOPS:
                self.stopping = True
                self._let_go()  # or the port would stay open when the child has closed it
                child.send_signal(number)
            elif number == signal.SIGTSTP:
                child.send_signal(signal.SIGSTOP)
                os.kill(os.getpid(), signal.SIGSTOP)
                child.send_signal(signal.SIGCONT)

    def _hold(self, sockets: list[socket.socket], kinds: list[str | None]) -> None:
        self._let_go()
        if self.stopping:
            for one in sockets:
                one.close()
            return
        self.held, self.kinds = sockets, kinds

    def _let_go(self) -> None:
        for one in self.held:
            one.close()
        self.held, self.kinds = [], []

    def _told_to_stop(self, seconds: float) -> bool:
        end = self.clock() + seconds
        while (left := end - self.clock()) > 0:
            numbers, _ = self.signals.wait(None, left)
            if any(number in STOPS for number in numbers):
                return True
        return False


def _news(line: socket.socket) -> tuple[list[dict[str, Any]], list[socket.socket]]:
    try:
        return collect(line)
    except OSError:  # reset: the child died with our message unread
        return [], []


def _log(message: str, fields: Mapping[str, object]) -> None:
    # Only a death needs the log, and the start should not wait for its imports.
    from mlxsrv.api.log import setup_logging

    setup_logging("info", sys.stderr)
    logger.error(message, extra={"fields": fields})
