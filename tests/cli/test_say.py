"""`mlxsrv say` against a real server, and with none."""

from __future__ import annotations

import subprocess
import sys
import wave
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlxsrv.cli.main import main
from mlxsrv.config.settings import ModelSettings
from tests.api.serving import Server, serving
from tests.cli.command import ROOT, environment, mlxsrv

pytest.importorskip("espeakng_loader")
soundfile = pytest.importorskip("soundfile")

TEXT = "Hello world, this is a test."


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("torch", {"espeak": ModelSettings(path="espeak")}) as running:
        yield running


def length(file: Path) -> float:
    return float(soundfile.info(str(file)).duration)


def test_a_text_becomes_a_file(server: Server, tmp_path: Path) -> None:
    done = mlxsrv(tmp_path, "say", TEXT, "-o", "out.wav", "--url", server.url)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "out.wav\n")
    with wave.open(str(tmp_path / "out.wav")) as file:
        assert file.getnframes() == soundfile.info(str(tmp_path / "out.wav")).frames
        assert 1.5 < file.getnframes() / file.getframerate() < 4


def test_the_files_name_says_the_format(server: Server, tmp_path: Path) -> None:
    for name, kind in (("a.mp3", "MP3"), ("b.OGG", "OGG"), ("c.flac", "FLAC")):
        done = mlxsrv(tmp_path, "say", TEXT, "-o", name, "--url", server.url)
        assert (done.returncode, done.stderr) == (0, "")
        assert soundfile.info(str(tmp_path / name)).format == kind
    done = mlxsrv(tmp_path, "say", TEXT, "-o", "d", "--format", "flac", "--url", server.url)
    assert done.returncode == 0
    assert soundfile.info(str(tmp_path / "d")).format == "FLAC"


def test_voice_and_speed_are_heeded(server: Server, tmp_path: Path) -> None:
    words = ("say", "-o", "a.wav", "--url", server.url, "--seed", "1")
    assert mlxsrv(tmp_path, *words, stdin=TEXT).returncode == 0
    usual = length(tmp_path / "a.wav")
    assert mlxsrv(tmp_path, *words, "--speed", "0.5", stdin=TEXT).returncode == 0
    assert length(tmp_path / "a.wav") == pytest.approx(2 * usual, rel=0.2)
    plain = (tmp_path / "a.wav").read_bytes()
    assert mlxsrv(tmp_path, *words, "--speed", "0.5", "--voice", "nova", stdin=TEXT).returncode == 0
    assert (tmp_path / "a.wav").read_bytes() != plain


def test_sound_goes_to_standard_output(server: Server, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mlxsrv", "say", TEXT, "-o", "-", "--url", server.url]
    done = subprocess.run(
        command, env=environment(tmp_path), cwd=ROOT, capture_output=True, timeout=60, check=True
    )
    assert done.stdout[:4] == b"RIFF"
    assert len(done.stdout) > 44 + 22_050 * 2


def test_without_a_file_it_is_played(server: Server, tmp_path: Path) -> None:
    player = tmp_path / "afplay"
    player.write_text('#!/bin/sh\nhead -c 4 "$1" > played\n')
    player.chmod(0o755)
    done = mlxsrv(tmp_path, "say", TEXT, "--url", server.url, PATH=f"{tmp_path}:/usr/bin:/bin")
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")
    assert (tmp_path / "played").read_bytes() == b"RIFF"
    player.write_text("#!/bin/sh\nexit 3\n")
    done = mlxsrv(tmp_path, "say", TEXT, "--url", server.url, PATH=f"{tmp_path}:/usr/bin:/bin")
    assert "could not play it" in done.stderr


def test_what_goes_wrong_is_one_line(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("old.wav").write_bytes(b"keep me")
    Path("notes.wav").write_text("This is text.")
    for words, said in (
        ((TEXT, "-o", "speech"), "its name should end in one of wav, mp3"),
        ((TEXT, "-o", "gone/a.wav"), "No such file"),
        ((TEXT, "-o", "old.wav", "--speed", "9"), "speed: should be less than"),
        (("", "-o", "old.wav"), "input: is empty"),
        ((TEXT, "-o", "old.wav", "--voice-file", "gone.wav"), "gone.wav: No such file"),
        ((TEXT, "-o", "old.wav", "--voice-file", "notes.wav"), "voice_data: This is not audio"),
        ((TEXT, "-o", "old.wav", "--model", "other"), "does not serve other, but espeak"),
    ):
        assert main(["say", *words, "--url", server.url]) == 1
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("mlxsrv: error: ")
        assert said in captured.err
        assert captured.err.count("\n") == 1
    assert Path("old.wav").read_bytes() == b"keep me"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["say", TEXT, "--url", server.url]) == 1
    assert "name a file by -o" in capsys.readouterr().err


@pytest.mark.slow
def test_without_a_server_the_built_in_voice_is_started(tmp_path: Path) -> None:
    done = mlxsrv(tmp_path, "say", TEXT, "-o", "a.wav", MLXSRV_ADDRESS="127.0.0.1:9")
    assert done.returncode == 0, done.stderr
    assert "using espeak" in done.stderr
    assert length(tmp_path / "a.wav") > 1
