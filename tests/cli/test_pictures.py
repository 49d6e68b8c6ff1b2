from __future__ import annotations

import base64
import io
import re

import pytest
from PIL import Image

from mlxsrv.cli.pictures import Canvas, Terminal, iterm2, kitty, terminal_of
from tests.media.pictures import png, quarters, saved


@pytest.mark.parametrize(
    ("environment", "kind"),
    [
        ({}, None),
        ({"TERM": "xterm-256color"}, None),
        ({"TERM": "dumb"}, None),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "Apple_Terminal"}, None),
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM": "xterm-ghostty", "TERM_PROGRAM": "ghostty"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "iterm2"),
        ({"TERM": "xterm-256color", "LC_TERMINAL": "iTerm2"}, "iterm2"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, "iterm2"),
        ({"TERM": "tmux-256color", "LC_TERMINAL": "iTerm2"}, None),
        ({"TERM": "screen", "KITTY_WINDOW_ID": "1"}, None),
        ({"TERM": "xterm-kitty", "TMUX": "/tmp/tmux-0/default,1,0"}, None),
    ],
)
def test_terminals_say_who_they_are(environment: dict[str, str], kind: Terminal | None) -> None:
    assert terminal_of(environment) == kind


def kittys_picture(text: str) -> bytes:
    """What the terminal makes of the commands."""
    commands = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", text)
    assert commands[0][0].startswith("a=T,f=100,")
    assert [keys[-3:] for keys, _ in commands] == ["m=1"] * (len(commands) - 1) + ["m=0"] or (
        len(commands) == 1
    )
    assert all(len(piece) <= 4096 for _, piece in commands)
    assert all(len(piece) % 4 == 0 for _, piece in commands)
    return base64.b64decode("".join(piece for _, piece in commands))


@pytest.mark.parametrize("nbytes", [1, 3072, 3073, 10_000])
def test_kitty_takes_it_in_pieces(nbytes: int) -> None:
    content = bytes(range(256)) * 40
    assert kittys_picture(kitty(content[:nbytes], 9, 77)) == content[:nbytes]


def test_iterm2_takes_it_whole() -> None:
    head, _, text = iterm2(b"picture", 9).partition(":")
    assert head == "\x1b]1337;File=inline=1;size=7;height=9"
    assert base64.b64decode(text.removesuffix("\x07")) == b"picture"


def test_the_canvas_shows_one_after_the_other_in_place() -> None:
    target = io.StringIO()
    canvas = Canvas("kitty", target)
    found = []
    for index in (0, 0, 1):
        canvas.show(index, png(quarters()))
        found.append(target.getvalue())
        target.seek(0)
        target.truncate()
    numbers = [re.findall(r",i=(\d+),", text)[0] for text in found]
    assert numbers[0] == numbers[1] != numbers[2]
    assert [text.count("\n") for text in found] == [canvas.rows, 0, canvas.rows]
    for text in found:
        assert f"\x1b7\x1b[{canvas.rows}A\r" in text
        assert text.endswith("\x1b8")
        assert f"r={canvas.rows}," in text


def test_kitty_gets_every_file_as_png() -> None:
    target = io.StringIO()
    Canvas("kitty", target).show(0, saved(Image.fromarray(quarters()), "JPEG"))
    assert kittys_picture(target.getvalue()).startswith(b"\x89PNG")
