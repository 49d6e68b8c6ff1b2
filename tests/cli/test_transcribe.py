"""`mlxsrv transcribe` against a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlxsrv.cli import transcribe
from mlxsrv.config.settings import ModelSettings
from tests import tiny_whisper
from tests.api.serving import Server, serving
from tests.api.test_transcriptions import MOMENTS, send, wav
from tests.cli.command import mlxsrv

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("whisper")
    folder = tiny_whisper.build(root / "tiny", audio_context=MOMENTS)
    with serving("torch", {"tiny": ModelSettings(path=str(folder))}) as running:
        yield running


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "talk.wav").write_bytes(wav(3.5))
    return tmp_path


def test_text_goes_to_standard_output(server: Server, home: Path) -> None:
    done = mlxsrv(home, "transcribe", "talk.wav", "--url", server.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == send(server).json()["text"] + "\n"


def test_every_file_gets_one_of_its_own(server: Server, home: Path) -> None:
    (home / "more.mp3").write_bytes((home / "talk.wav").read_bytes())
    words = ("transcribe", "talk.wav", "more.mp3", "-o", "out", "--url", server.url)
    for form, suffix in (("srt", "srt"), ("vtt", "vtt"), ("text", "txt")):
        done = mlxsrv(home, *words, "--format", form)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"out/talk.{suffix}\nout/more.{suffix}\n"
        expected = send(server, response_format=form).text
        assert (home / "out" / f"talk.{suffix}").read_text() == expected
        assert (home / "out" / f"more.{suffix}").read_text() == expected


def test_words_and_languages_are_asked_for(server: Server, home: Path) -> None:
    words = ("--format", "json", "--word-timestamps", "--language", "german", "--translate")
    done = mlxsrv(home, "transcribe", "talk.wav", *words, "--url", server.url, "--model", "tiny")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert (found["language"], found["duration"]) == ("german", 3.5)
    assert any(segment.get("words") for segment in found["segments"])


def test_a_large_file_is_sent_as_its_sound(
    server: Server, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(transcribe, "MANY_BYTES", 1000)
    monkeypatch.chdir(home)
    from mlxsrv.cli.main import main

    assert main(["transcribe", "talk.wav", "--url", server.url]) == 0
    assert capsys.readouterr().out == send(server).json()["text"] + "\n"


def test_what_goes_wrong_is_one_line(server: Server, home: Path) -> None:
    (home / "notes.mp3").write_text("This is text. " * 100)
    for words, said in (
        (("notes.mp3",), "This is not audio or video"),
        (("gone.wav",), "no such file: gone.wav"),
        (("talk.wav", "--language", "klingon"), "klingon"),
        (("talk.wav", "--model", "other"), "does not serve other, but tiny"),
    ):
        done = mlxsrv(home, "transcribe", *words, "--url", server.url)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("mlxsrv: error: ")
        assert said in done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["mlx", "torch"])
def test_without_a_server_the_demo_model_is_started(home: Path, backend: str) -> None:
    words = ("transcribe", "talk.wav", "--backend", backend)
    done = mlxsrv(home, *words, MLXSRV_ADDRESS="127.0.0.1:9")
    assert done.returncode == 0, done.stderr
    assert "demo-whisper" in done.stderr
