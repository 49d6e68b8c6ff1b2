"""pull, list and rm, against a hub on loopback."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios
from pathlib import Path

from tests.checkpoints import model_files
from tests.cli.command import environment, mlxsrv
from tests.hub_double import running

REPOS = {"org/tiny": model_files()}


def test_pull_list_and_rm(tmp_path: Path) -> None:
    with running(REPOS) as hub:
        pulled = mlxsrv(tmp_path, "pull", "org/tiny", HF_ENDPOINT=hub.url)
        missing = mlxsrv(tmp_path, "pull", "org/none", HF_ENDPOINT=hub.url)
    assert (pulled.returncode, pulled.stderr) == (0, "")
    assert pulled.stdout.startswith("org/tiny: chat, 4.1 kB, in ")
    assert missing.returncode == 1
    assert missing.stderr.startswith("mlxsrv: error: there is no model org/none at ")

    listed = mlxsrv(tmp_path, "list")
    rows = [line.split() for line in listed.stdout.splitlines()]
    assert rows[0] == ["NAME", "SIZE", "KIND", "WHERE"]
    assert ["org/tiny", "4.4", "kB", "chat"] in [row[:4] for row in rows]
    assert "demo-chat" in [row[0] for row in rows]

    refused = mlxsrv(tmp_path, "rm", "org/tiny")
    assert refused.returncode == 1
    assert refused.stderr.startswith("mlxsrv: error: --yes: needed")
    assert mlxsrv(tmp_path, "rm", "org/tiny", "--yes").stdout == "deleted org/tiny, 4.4 kB freed\n"
    assert "org/tiny" not in mlxsrv(tmp_path, "list").stdout
    assert mlxsrv(tmp_path, "rm", "demo-chat", "--yes").returncode == 1


def test_a_terminal_sees_a_bar(tmp_path: Path) -> None:
    primary, secondary = pty.openpty()
    termios.tcsetwinsize(secondary, (24, 80))
    subprocess.run(
        [sys.executable, "-c", BAR],
        env=environment(tmp_path),
        stderr=secondary,
        timeout=60,
        check=True,
    )
    shown = os.read(primary, 100_000).decode()
    os.close(secondary)
    os.close(primary)
    assert "w.safetensors:  50%" in shown
    assert "5.00k/10.0k" in shown


BAR = """
import time
from mlxsrv.backends.hub import Progress
from mlxsrv.cli.bar import download_bar
with download_bar() as report:
    for done in (0, 5_000, 5_000, 10_000):
        time.sleep(0.15)
        report(Progress("w.safetensors", done, 10_000))
"""
