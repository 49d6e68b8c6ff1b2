"""The supervisor: when it restarts, what it passes on, and what its clients see meanwhile."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxsrv import supervisor
from mlxsrv.supervised import DEVICE_DIED, VARIABLE
from mlxsrv.supervisor import Life, Policy, exit_code, supervise, wanted

ROOT = Path(__file__).parent.parent
LAUNCHER = (
    "import sys; from mlxsrv import supervisor; "
    "supervisor.FIRST_DELAY = float(sys.argv[1]); "
    "sys.exit(supervisor.supervise([sys.executable, *sys.argv[2:]]))"
)

pytestmark = pytest.mark.slow  # every test starts processes of its own
READY_THEN_ABORTS = "import os; from mlxsrv.supervised import attach; attach().ready(); os.abort()"


class Supervised:
    """A supervisor in a process of its own, and what it and its children have printed."""

    def __init__(self, *command: str, delay: float) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", LAUNCHER, str(delay), *command],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []
        self.printed = threading.Condition()
        self.ended = False
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self.printed:
                self.lines.append(line)
                self.printed.notify_all()
        with self.printed:
            self.ended = True
            self.printed.notify_all()

    @property
    def output(self) -> str:
        return "".join(self.lines)

    def wait_for(self, pattern: str, times: int = 1) -> list[str]:
        """Waits until `pattern` has been printed so often; its first group, each time."""
        with self.printed:
            self.printed.wait_for(
                lambda: self.ended or len(re.findall(pattern, self.output)) >= times, 60
            )
            found: list[str] = re.findall(pattern, self.output)
        assert len(found) >= times, self.output
        return found

    def child(self, life: int = 1) -> int:
        """The process id of the child in its `life`-th life, once it is ready."""
        self.wait_for("stop with Ctrl-C", life)
        return int(self.wait_for(r"pid (\d+)", life)[life - 1])

    def urls(self) -> list[str]:
        return self.wait_for(r"(http://127\.0\.0\.1:\d+)")


@contextmanager
def supervised(*command: str, delay: float = 0.05) -> Iterator[Supervised]:
    running = Supervised(*command, delay=delay)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
        running.process.wait()
        running.reader.join()  # at the end of the children's output: they have ended too
        assert running.process.stdout is not None
        running.process.stdout.close()


def toy(*options: str) -> tuple[str, ...]:
    return ("-m", "tests.toy_server", "127.0.0.1:0", *options)


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGABRT])
def test_clients_wait_while_a_dead_process_is_replaced(sign: signal.Signals) -> None:
    with supervised(*toy()) as running:
        child = running.child()
        url = running.urls()[0]
        os.kill(child, sign)
        answer = httpx.get(f"{url}/v1/models/m", timeout=60)
        assert answer.status_code == 200
        assert "mlxsrv_restarts_total 1.0" in httpx.get(f"{url}/metrics").text
        assert running.child(2) != child
        running.process.terminate()
        assert running.process.wait(30) == 0
    assert f'msg="the serving process died: restarting it" reason={sign.name}' in running.output


def test_split_ports_keep_their_kind_over_a_restart() -> None:
    with supervised(*toy("ports=embedding=0,stt=0")) as running:
        os.kill(running.child(), signal.SIGKILL)
        running.child(2)
        urls = running.urls()
        kinds = [httpx.get(f"{url}/v1/models/m", timeout=60).json()["kind"] for url in urls[:3]]
    assert urls[:3] == urls[3:]
    assert kinds == [None, "embedding", "stt"]


def test_the_child_ends_when_the_supervisor_is_killed() -> None:
    with supervised(*toy()) as running:
        running.child()
        url = running.urls()[0]
        running.process.kill()
        running.reader.join(30)
        with pytest.raises(httpx.ConnectError):
            httpx.get(url)


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_for_the_whole_group_reaches_the_child_once(sign: signal.Signals) -> None:
    """As Ctrl-C in a terminal does: a second SIGINT would skip the graceful end."""
    with supervised(*toy()) as running:
        running.child()
        os.killpg(running.process.pid, sign)
        assert running.process.wait(30) == 0
        running.reader.join(30)
    assert running.output.endswith("stopped\n")
    assert "stopped at once" not in running.output


def test_a_stop_does_not_wait_for_the_next_life() -> None:
    with supervised("-c", READY_THEN_ABORTS, delay=1000) as running:
        running.wait_for("restarting it")
        running.process.terminate()
        assert running.process.wait(30) == 0


def run_quickly(monkeypatch: pytest.MonkeyPatch, code: str) -> int:
    monkeypatch.setattr(supervisor, "FIRST_DELAY", 0.0)
    monkeypatch.chdir(ROOT)
    return supervise([sys.executable, "-c", code])


@pytest.mark.parametrize("code", [0, 1, 2, 130])
def test_an_ordinary_end_is_passed_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int
) -> None:
    lives = tmp_path / "lives"
    script = f"open({str(lives)!r}, 'a').write('x'); raise SystemExit({code})"
    assert run_quickly(monkeypatch, script) == code
    assert lives.read_text() == "x"


def test_it_gives_up_on_what_never_gets_ready(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lives = tmp_path / "lives"
    script = f"import os; open({str(lives)!r}, 'a').write('x'); os.abort()"
    assert run_quickly(monkeypatch, script) == 1
    assert len(lives.read_text()) == supervisor.MAX_FAILED_STARTS
    assert "giving up" in capfd.readouterr().err


def test_a_child_can_ask_not_to_be_restarted(monkeypatch: pytest.MonkeyPatch) -> None:
    script = "import os; from mlxsrv.supervised import attach; attach().release(); os.abort()"
    assert run_quickly(monkeypatch, script) == 128 + signal.SIGABRT


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1000)), min_size=1, max_size=30))
def test_delays_grow_to_their_limit_and_health_resets_them(
    lives: list[tuple[bool, float]],
) -> None:
    policy = Policy()
    before = 0.0
    ever_ready = False
    for number, (ready, seconds) in enumerate(lives, 1):
        ever_ready = ever_ready or ready
        life = Life(-signal.SIGABRT, seconds if ready else None)
        delay = policy.delay(life)
        if not ever_ready and number >= supervisor.MAX_FAILED_STARTS:
            assert delay is None
            return
        assert delay is not None
        if ready and seconds >= supervisor.HEALTHY_SECONDS:
            assert delay == supervisor.FIRST_DELAY
        else:
            assert delay == min(max(2 * before, supervisor.FIRST_DELAY), supervisor.LONGEST_DELAY)
        before = delay


@pytest.mark.parametrize(
    ("life", "died"),
    [
        (Life(0, 5.0), False),
        (Life(130, 5.0), False),
        (Life(-signal.SIGTERM, 5.0), False),
        (Life(1, None), False),  # a bad setting, a model that can't be loaded
        (Life(1, 5.0), True),
        (Life(DEVICE_DIED, None), True),
        (Life(DEVICE_DIED, 5.0), True),
        (Life(-signal.SIGKILL, None), True),
        (Life(-signal.SIGSEGV, 5.0), True),
        (Life(-signal.SIGSEGV, 5.0, released=True), False),
    ],
)
def test_what_counts_as_a_death(life: Life, died: bool) -> None:
    assert life.died == died


def test_exit_codes_follow_the_shell() -> None:
    assert exit_code(3, stopping=False) == 3
    assert exit_code(-signal.SIGSEGV, stopping=False) == 139
    assert exit_code(-signal.SIGTERM, stopping=True) == 0
    assert exit_code(-signal.SIGTERM, stopping=False) == 143


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("serve", True),
        ("serve model --port 1", True),
        ("serve --no-supervise", False),
        ("serve --help", False),
        ("list", False),
        ("--version", False),
        ("", False),
    ],
)
def test_only_serving_is_supervised(words: str, expected: bool) -> None:
    assert wanted(words.split(), {}) == expected
    assert not wanted(words.split(), {VARIABLE: "3"})
