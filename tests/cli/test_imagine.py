"""`mlxsrv imagine` against a real server, and with none."""

from __future__ import annotations

import io
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlxsrv.backends import builtin
from mlxsrv.cli.main import main
from mlxsrv.config.settings import ModelSettings
from mlxsrv.core.image import Pixels
from tests import tiny_images
from tests.api.serving import Server, serving
from tests.cli.command import ROOT, environment, mlxsrv
from tests.media.pictures import png, quarters

PROMPT = "a red circle"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tiny_images.write_flux(tmp_path_factory.mktemp("imagine") / "tiny")
    with serving("torch", {"tiny": ModelSettings(path=str(folder))}) as running:
        yield running


def pixels(file: Path) -> Pixels:
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))


def test_a_text_becomes_a_file(server: Server, tmp_path: Path) -> None:
    words = ("imagine", PROMPT, "-o", "out.png", "--size", "80x64", "--seed", "7", "--steps", "2")
    done = mlxsrv(tmp_path, *words, "--url", server.url)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "out.png\n")
    body = {"prompt": PROMPT, "size": "80x64", "seed": 7, "steps": 2}
    assert (tmp_path / "out.png").read_bytes() == server.post(
        "/v1/images/generations", body
    ).content
    assert not [file for file in os.listdir(tmp_path) if file.endswith(".part")]


def call(server: Server, monkeypatch: pytest.MonkeyPatch, folder: Path, *words: str) -> int:
    monkeypatch.chdir(folder)
    return main(["imagine", *words, "--url", server.url])


def test_the_files_name_says_the_format(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, kind in (("a.PNG", "PNG"), ("b.jpg", "JPEG"), ("c.jpeg", "JPEG"), ("d.webp", "WEBP")):
        assert call(server, monkeypatch, tmp_path, PROMPT, "-o", name) == 0
        with Image.open(tmp_path / name) as image:
            assert image.format == kind


def test_several_pictures_are_numbered(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = (PROMPT, "-o", "out.png", "-n", "3", "--seed", "4")
    assert call(server, monkeypatch, tmp_path, *words) == 0
    assert capsys.readouterr().out == "out-1.png\nout-2.png\nout-3.png\n"
    assert len({(tmp_path / f"out-{n}.png").read_bytes() for n in (1, 2, 3)}) == 3


def test_without_a_name_the_prompt_gives_one(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for _ in range(2):
        assert call(server, monkeypatch, tmp_path, "A red/circle!", "--seed", "4") == 0
    assert capsys.readouterr().out == "a-red-circle-4.png\na-red-circle-4-2.png\n"
    assert len(os.listdir(tmp_path)) == 2


def test_pictures_are_edited(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = quarters(64, 64)
    mask = np.zeros((64, 64), np.uint8)
    mask[:32] = 255
    (tmp_path / "in.png").write_bytes(png(given))
    (tmp_path / "mask.png").write_bytes(png(mask))
    words = (PROMPT, "-o", "out.png", "--image", "in.png")
    assert call(server, monkeypatch, tmp_path, *words, "--strength", "0") == 0
    np.testing.assert_array_equal(pixels(tmp_path / "out.png"), given)
    assert call(server, monkeypatch, tmp_path, *words, "--mask", "mask.png") == 0
    found = pixels(tmp_path / "out.png")
    np.testing.assert_array_equal(found[32:], given[32:])
    assert np.abs(found[:32].astype(int) - given[:32]).mean() > 5


def test_a_picture_goes_to_standard_output(server: Server, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mlxsrv", "imagine", "-o", "-", "--url", server.url]
    done = subprocess.run(
        command,
        env=environment(tmp_path),
        cwd=ROOT,
        input=PROMPT.encode(),
        capture_output=True,
        timeout=60,
        check=True,
    )
    with Image.open(io.BytesIO(done.stdout)) as image:
        assert image.size == (64, 64)


def test_what_goes_wrong_is_one_line(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "old.png").write_bytes(b"keep me")
    (tmp_path / "notes.png").write_text("This is text.")
    (tmp_path / "in.png").write_bytes(png(quarters()))
    for words, said in (
        ((PROMPT, "-o", "picture"), "its name should end in one of .png, .jpg"),
        ((PROMPT, "-o", "gone/a.png"), "no such folder"),
        ((PROMPT, "-o", "-", "-n", "2"), "standard output"),
        ((PROMPT, "-o", "old.png", "--size", "1x1"), "size: "),
        ((PROMPT, "-o", "old.png", "--steps", "0"), "steps: "),
        ((PROMPT, "-o", "old.png", "--guidance", "3"), "guidance: tiny heeds none"),
        (("", "-o", "old.png"), "prompt: is empty"),
        ((PROMPT, "-o", "old.png", "--image", "gone.png"), "no such file: gone.png"),
        ((PROMPT, "-o", "old.png", "--image", "notes.png"), "image: This is not a picture"),
        ((PROMPT, "-o", "old.png", "--mask", "in.png"), "--image"),
        ((PROMPT, "-o", "old.png", "--image", "in.png", "--mask", "notes.png"), "mask: "),
        ((PROMPT, "-o", "old.png", "--model", "other"), "does not serve other, but tiny"),
    ):
        assert call(server, monkeypatch, tmp_path, *words) == 1
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("mlxsrv: error: ")
        assert said in captured.err
        assert captured.err.count("\n") == 1
    assert (tmp_path / "old.png").read_bytes() == b"keep me"


def test_a_full_disk_leaves_no_half_a_picture(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "full.png").symlink_to("/dev/full")
    assert call(server, monkeypatch, tmp_path, PROMPT, "-o", "full.png") == 1
    assert "No space left" in capsys.readouterr().err
    write = Path.write_bytes

    def half(self: Path, content: bytes) -> int:
        write(self, content[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    (tmp_path / "full.png").unlink()
    assert call(server, monkeypatch, tmp_path, PROMPT, "-o", "out.png") == 1
    assert "out.png: No space left" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def on_terminal(server: Server, folder: Path, *words: str, **variables: str) -> tuple[int, bytes]:
    """Run where a person would see it; gives the exit code and what was shown."""
    main_end, other_end = pty.openpty()
    termios.tcsetwinsize(other_end, (24, 80))
    child = subprocess.Popen(
        [sys.executable, "-m", "mlxsrv", "imagine", PROMPT, "--url", server.url, *words],
        env=environment(folder, **variables),
        cwd=folder,
        stdin=other_end,
        stdout=other_end,
        stderr=other_end,
    )
    os.close(other_end)
    shown = b""
    try:
        while block := os.read(main_end, 65536):
            shown += block
    except OSError:
        pass  # Linux's way to say that the other end is closed
    finally:
        os.close(main_end)
    return child.wait(60), shown


def test_terminals_show_it(server: Server, tmp_path: Path) -> None:
    code, shown = on_terminal(server, tmp_path, "--seed", "5", TERM="xterm-kitty")
    assert code == 0
    assert shown.count(b"a=T,f=100") == 4  # three previews, and the picture
    assert b"seed 5" in shown
    assert b"picture 1: " in shown
    assert os.listdir(tmp_path) == []
    code, shown = on_terminal(server, tmp_path, "-o", "a.webp", TERM_PROGRAM="iTerm.app")
    assert code == 0
    assert shown.count(b"\x1b]1337;File=inline=1") == 4
    assert b"a.webp" in shown
    code, shown = on_terminal(server, tmp_path, "--seed", "5", TERM="xterm")
    assert code == 0
    assert b"\x1b_G" not in shown
    assert sorted(os.listdir(tmp_path)) == ["a-red-circle-5.png", "a.webp"]


def test_ctrl_c_ends_it_and_the_work(server: Server, tmp_path: Path) -> None:
    meters = server.services.registry.image_meters()[0]
    before = meters.steps
    command = [sys.executable, "-m", "mlxsrv", "imagine", PROMPT, "-o", "out.png", "-n", "4"]
    command += ["--steps", "100", "--size", "256x256", "--url", server.url]
    child = subprocess.Popen(
        command, env=environment(tmp_path), cwd=tmp_path, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 30
    while meters.steps < before + 3:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=30)
    assert (child.returncode, said) == (130, b"")
    while meters.running:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert meters.steps < before + 100
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
@pytest.mark.skipif("demo-image" not in builtin.builtin_models(), reason="it is being made")
def test_without_a_server_the_built_in_model_is_started(tmp_path: Path) -> None:
    words = ("imagine", "a red circle on a blue background", "-o", "a.png")
    done = mlxsrv(tmp_path, *words, MLXSRV_ADDRESS="127.0.0.1:9")
    assert done.returncode == 0, done.stderr
    assert "using demo-image" in done.stderr
    assert pixels(tmp_path / "a.png").std() > 10
