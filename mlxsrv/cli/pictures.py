"""Pictures inside of terminals that can show them.

What they are told: kitty's graphics protocol (sw.kovidgoyal.net/kitty/graphics-protocol), which
other terminals know, too, and iTerm2's (iterm2.com/documentation-images.html).
"""

from __future__ import annotations

import base64
import io
import secrets
import shutil
from collections.abc import Mapping
from typing import Literal, TextIO

Terminal = Literal["kitty", "iterm2"]

ROWS = 16
PIECE = 4096
"""Characters that kitty takes at a time."""

PNG = b"\x89PNG"
_LIKE_KITTY = frozenset({"xterm-kitty", "xterm-ghostty"})
_LIKE_ITERM2 = frozenset({"iTerm.app", "WezTerm"})


def terminal_of(environment: Mapping[str, str]) -> Terminal | None:
    """What kind of pictures the terminal shows, by what it says of itself; None: none.

    Multiplexers hide the terminal, and would have to pass pictures on.
    """
    name, program = environment.get("TERM", ""), environment.get("TERM_PROGRAM", "")
    if "TMUX" in environment or name.startswith(("screen", "tmux")):
        return None
    if "KITTY_WINDOW_ID" in environment or name in _LIKE_KITTY or program == "ghostty":
        return "kitty"
    if program in _LIKE_ITERM2 or environment.get("LC_TERMINAL") == "iTerm2":
        return "iterm2"
    return None


class Canvas:
    """A place above the line where the cursor is, which shows one picture after the other."""

    def __init__(self, terminal: Terminal, target: TextIO) -> None:
        self.rows = max(1, min(ROWS, shutil.get_terminal_size().lines - 2))
        self._terminal = terminal
        self._target = target
        self._id = 0
        self._shown: int | None = None

    def show(self, index: int, content: bytes) -> None:
        """A picture file, in place of an earlier one with the same index, below all others."""
        room = ""
        if index != self._shown:
            self._shown, self._id = index, secrets.randbelow(2**32 - 1) + 1
            room = "\r\x1b[K" + "\n" * self.rows
        picture = self._picture(content)
        self._target.write(f"{room}\x1b7\x1b[{self.rows}A\r{picture}\x1b8")
        self._target.flush()

    def _picture(self, content: bytes) -> str:
        if self._terminal == "kitty":
            return kitty(_as_png(content), self.rows, self._id)
        return iterm2(content, self.rows)


def kitty(png: bytes, rows: int, number: int) -> str:
    """Shows a PNG file in so many rows, without an answer and without moving the cursor; what
    else has the number vanishes."""
    text = base64.b64encode(png).decode()
    pieces = [text[start : start + PIECE] for start in range(0, len(text), PIECE)]
    keys = f"a=T,f=100,i={number},r={rows},C=1,q=2,"
    commands = []
    for place, piece in enumerate(pieces, 1):
        more = int(place < len(pieces))
        commands.append(f"\x1b_G{keys}m={more};{piece}\x1b\\")
        keys = "q=2,"
    return "".join(commands)


def iterm2(content: bytes, rows: int) -> str:
    """The same of any kind of file; it moves the cursor."""
    text = base64.b64encode(content).decode()
    return f"\x1b]1337;File=inline=1;size={len(content)};height={rows}:{text}\x07"


def _as_png(content: bytes) -> bytes:
    if content.startswith(PNG):
        return content
    from mlxsrv.media.image_decode import MAX_PIXELS, decode_picture
    from mlxsrv.media.image_encode import encode_picture

    found = decode_picture(io.BytesIO(content), "picture", most_pixels=MAX_PIXELS)
    return encode_picture(found.pixels, "png")
