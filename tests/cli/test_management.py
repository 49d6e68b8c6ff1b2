"""load, ps, run, lora and unload, against a real server."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests import hub_double, tiny_adapters, tiny_models
from tests.cli.command import environment, mlxsrv
from tests.e2e.process import Process, serve

pytestmark = pytest.mark.slow

Ask = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    tiny_models.build(home / "shelf" / "tiny")
    tiny_models.build(home / "shelf" / "other", seed=5)
    tiny_models.build(home / "outside", seed=6)
    tiny_adapters.write_peft(home / "shelf" / "adapter")
    (home / "shelf" / "pickled").mkdir()
    (home / "shelf" / "pickled" / "config.json").write_text("{}")
    (home / "shelf" / "pickled" / "pytorch_model.bin").write_bytes(b"\x80\x04boom")
    return home


@pytest.fixture(scope="module")
def hub(home: Path) -> Iterator[hub_double.HubDouble]:
    files = {file.name: file.read_bytes() for file in (home / "shelf" / "tiny").iterdir()}
    with hub_double.running({"org/far": files}) as hub:
        yield hub


@pytest.fixture(scope="module")
def server(home: Path, hub: hub_double.HubDouble) -> Iterator[Process]:
    flags = ("--backend", "torch", "--allowed-folders", "shelf", "--allow-download")
    variables = {"HF_ENDPOINT": hub.url, "HF_HOME": str(home / "hf")}
    with serve(home, "shelf/tiny", *flags, **variables) as process:
        yield process


@pytest.fixture
def ask(home: Path, server: Process) -> Ask:
    """Runs a command that finds the server by its settings."""

    def ask(*words: str) -> subprocess.CompletedProcess[str]:
        return mlxsrv(home, *words, MLXSRV_ADDRESS=server.url.removeprefix("http://"))

    return ask


def rows(ask: Ask) -> list[list[str]]:
    """The words of each line of `mlxsrv ps` but the first two."""
    return [line.split() for line in ask("ps").stdout.splitlines()[2:]]


def test_a_model_comes_is_used_and_goes(ask: Ask) -> None:
    loaded = ask("load", "shelf/other", "--name", "guest", "--ttl", "300", "--pin")
    assert (loaded.stdout, loaded.stderr) == ("guest: chat, torch, 156.4 kB\n", "")
    *models, memory = rows(ask)
    assert [model[0] for model in models] == ["tiny", "guest"]
    size = ["156.4", "kB", "512"]
    assert models[0][:7] == ["tiny", "chat", "idle", "torch", *size]
    assert models[1][:7] == ["guest", "chat", "idle", "torch", *size]
    assert models[1][-4:] == ["of", "5", "min", "pinned"]
    assert re.match(r"memory: \d.* of \d+\.\d GB \(weights 312\.8 kB, ", " ".join(memory))
    assert ask("run", "guest", "hello", "--max-tokens", "3").returncode == 0
    again = ask("load", "guest", "--no-pin")
    assert again.stdout == loaded.stdout
    assert "pinned" not in ask("ps").stdout
    gone = ask("unload", "guest")
    assert (gone.stdout, gone.stderr) == ("unloaded guest, 156.4 kB freed\n", "")
    assert [model[0] for model in rows(ask)[:-1]] == ["tiny"]


def test_an_adapter_comes_is_used_and_goes(ask: Ask) -> None:
    assert ask("lora", "list").stdout == "no adapters: mlxsrv lora load BASE NAME PATH\n"
    loaded = ask("lora", "load", "tiny", "pirate", "shelf/adapter", "--scale", "0.5")
    assert loaded.stderr == ""
    assert re.fullmatch(r"pirate: rank 4, \d+\.\d kB, beside tiny\n", loaded.stdout)
    head, row = (line.split() for line in ask("lora", "list").stdout.splitlines())
    assert head == ["NAME", "BASE", "RANK", "SCALE", "PATH"]
    assert row[:4] == ["pirate", "tiny", "4", "0.5"]
    assert row[4].endswith("/shelf/adapter")
    shown = ask("ps").stdout.splitlines()
    assert shown[3].startswith("  pirate  lora  idle")
    assert "adapters " in shown[-1]
    assert ask("run", "pirate", "hello", "--max-tokens", "3").returncode == 0
    gone = ask("lora", "unload", "pirate")
    assert (gone.returncode, gone.stdout[:16]) == (0, "unloaded pirate,")
    assert [model[0] for model in rows(ask)[:-1]] == ["tiny"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["load", "nowhere"], "nowhere"),
        (["load", "outside"], "allowed"),
        (["load", "shelf/pickled"], "safetensors"),
        (["load", "shelf/other", "--name", "tiny"], "tiny"),
        (["load", "shelf/other", "--ttl", "-1"], "ttl: should be greater than or equal to 0"),
        (["load", "shelf/other", "--ttl", "nan"], "ttl: NaN is not a finite number"),
        (["load", "shelf/other", "--name", ""], "name: should not be empty"),
        (["unload", "nobody"], "The model `nobody` does not exist"),
        (["unload", "tiny", "--timeout", "-1"], "timeout: should be greater than or equal to 0"),
        (["lora", "unload", "nobody"], "nobody"),
        (["lora", "load", "tiny", "a", "shelf/tiny"], "adapter"),
        (["lora", "load", "tiny", "a", "outside"], "allowed"),
    ],
)
def test_failures_are_one_plain_line(
    ask: Ask, server: Process, words: list[str], message: str
) -> None:
    done = ask(*words)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"mlxsrv: error: [^\n]+\n", done.stderr)
    assert message in done.stderr
    assert [model["id"] for model in httpx.get(f"{server.url}/v1/models").json()["data"]] == [
        "tiny"
    ]


@pytest.mark.parametrize("words", [["load"], ["unload"], ["lora"], ["lora", "load", "a", "b"]])
def test_wrong_usage(tmp_path: Path, words: list[str]) -> None:
    done = mlxsrv(tmp_path, *words)
    assert done.returncode == 2
    assert f"usage: mlxsrv {words[0]}" in done.stderr


def test_no_server(tmp_path: Path) -> None:
    for words in (["load", "x"], ["unload", "x"], ["lora", "list"], ["lora", "unload", "x"]):
        done = mlxsrv(tmp_path, *words, "--url", "http://127.0.0.1:9")
        assert (done.returncode, done.stdout) == (1, "")
        assert "http://127.0.0.1:9" in done.stderr
        assert done.stderr.count("\n") == 1


def test_a_terminal_sees_how_far_a_download_is(
    home: Path, server: Process, hub: hub_double.HubDouble
) -> None:
    """The hub is slow, and drops the line once."""
    hub.cut_after = [20_000]
    hub.pause = 0.01
    primary, secondary = pty.openpty()
    termios.tcsetwinsize(secondary, (24, 80))
    with subprocess.Popen(
        [sys.executable, "-m", "mlxsrv", "load", "org/far", "--url", server.url],
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=secondary,
        text=True,
    ) as command:
        os.close(secondary)
        shown = ""
        while not re.search(r"download: +[1-9]\d?%", shown):
            shown += os.read(primary, 1000).decode()
        assert command.stdout is not None
        assert command.stdout.read() == "org/far: chat, torch, 156.4 kB\n"
        assert command.wait(60) == 0
    os.close(primary)
    ranges = [given for _, path, given in hub.requests if path.endswith("model.safetensors")]
    assert "bytes=20000-" in ranges
    assert mlxsrv(home, "unload", "org/far", "--url", server.url).returncode == 0
