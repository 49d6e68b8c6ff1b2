from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mlxsrv import __version__
from mlxsrv.cli.main import COMMANDS
from mlxsrv.config import sources
from tests.cli.command import environment, mlxsrv

HEAVY = ("mlx", "torch", "transformers", "fastapi", "huggingface_hub", "numpy")


def test_version(tmp_path: Path) -> None:
    done = mlxsrv(tmp_path, "--version")
    assert (done.returncode, done.stdout) == (0, f"mlxsrv {__version__}\n")


def test_help_names_every_command(tmp_path: Path) -> None:
    done = mlxsrv(tmp_path, "--help")
    assert done.returncode == 0
    for name, summary in COMMANDS.items():
        assert f"    {name}" in done.stdout
        assert " ".join(summary.split()) in " ".join(done.stdout.split())


@pytest.mark.parametrize("words", [["--help"], *[[name, "--help"] for name in COMMANDS]])
def test_help_imports_nothing_heavy(words: list[str], tmp_path: Path) -> None:
    script = f"""
import sys
from mlxsrv.cli import main
try:
    main({words!r})
except SystemExit:
    pass
print(sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == "[]\n"


def test_every_setting_has_a_flag_with_its_default(tmp_path: Path) -> None:
    shown = " ".join(mlxsrv(tmp_path, "serve", "--help").stdout.split())
    for _, key in list(sources.keys()):
        assert f" {sources.flag_of(key)}" in shown
    for flag in ("--config", "--host", "--port", "--name", "--kind", "--size", "--model-ttl"):
        assert f" {flag} " in shown
    assert "--cors-enabled, --no-cors-enabled" in shown
    assert "waiting requests per model before 503 (default: 256)" in shown


@pytest.mark.parametrize("words", [[], ["nope"], ["serve", "--nope"], ["rm"]])
def test_wrong_usage_is_exit_code_2(words: list[str], tmp_path: Path) -> None:
    done = mlxsrv(tmp_path, *words)
    assert done.returncode == 2
    assert "mlxsrv" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["serve", "o/m", "--max-queue", "x"], "--max-queue: Input should be a valid integer"),
        (["serve", "o/m", "--ports", "chatty=1"], "--ports: Input should be 'chat'"),
        (["serve", "o/m", "--host", "0.0.0.0"], "--host: 0.0.0.0 can be reached from other"),
        (["serve", "o/m", "--size", "big"], "--size: String should match pattern"),
        (["serve", "o/m", "--default-temperature", "3"], "--default-temperature: Input should"),
        (["serve", "o/m", "--backend", "x"], "--backend: Input should be 'auto', 'mlx' or"),
        (["serve", "a/b", "c/d", "--pin"], "--pin: goes with exactly one MODEL, and 2 are named"),
        (["serve", "--name", "x"], "--name: goes with exactly one MODEL, and 0 are named"),
        (["serve", "a/b", "a/b"], "two MODELs would both be called a/b"),
        (["serve", "nowhere"], "command line: nowhere.path: no such file or folder, and not a"),
        (["serve", "/no/where"], "command line: where.path: no such file or folder, and not a"),
        (["serve", "--config", "none.toml"], "none.toml: No such file or directory"),
        (["serve", "--no-enabled", "o/m"], "--enabled: is false, so there is nothing to serve"),
        (["pull", "nowhere"], "nowhere is not a hub id, which has the form org/name"),
        (["rm", "org/none", "--yes"], "org/none is not in "),
        (["ps", "--url", "http://127.0.0.1:9"], "no mlxsrv answers at http://127.0.0.1:9"),
    ],
)
def test_errors_are_one_line(words: list[str], line: str, tmp_path: Path) -> None:
    done = mlxsrv(tmp_path, *words)
    assert done.returncode == 1
    assert done.stderr.startswith(f"mlxsrv: error: {line}")
    assert done.stderr.count("\n") == 1


def test_a_bad_file_names_line_and_key(tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text("[api]\n\nmax_queue = 'x'\n", encoding="utf-8")
    for words, variables in (
        (["serve", "--config", "m.toml"], {}),
        (["serve"], {"MLXSRV_CONFIG": "m.toml"}),
    ):
        done = mlxsrv(tmp_path, *words, **variables)
        assert done.returncode == 1
        assert done.stderr.startswith("mlxsrv: error: m.toml:3: api.max_queue: Input should be")
