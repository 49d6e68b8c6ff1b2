"""A fast BLAS for MLX on Linux.

The Linux build of MLX links the reference BLAS; OpenBLAS, loaded before it, answers the same
symbols more than ten times as fast. That only works before the process starts, so the server
executes itself again.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path

SWITCH = "MLXSRV_BLAS"
OFF = "off"
DONE = "preloaded"
PACKAGE = "libopenblas0-pthread"
"""Debian's and Ubuntu's package."""

_CANDIDATES = (
    "/usr/lib/{machine}-linux-gnu/openblas-pthread/libblas.so.3",
    "/usr/lib/{machine}-linux-gnu/openblas-openmp/libblas.so.3",
    "/usr/lib64/libopenblasp.so.0",
    "/usr/lib/libopenblas.so.0",
)


def library(machine: str | None = None, root: Path = Path("/")) -> Path | None:
    """Where OpenBLAS is on this machine; None where it is not installed or not needed."""
    if platform.system() != "Linux":
        return None
    for candidate in _CANDIDATES:
        path = root / candidate.format(machine=machine or platform.machine()).lstrip("/")
        if path.exists():
            return path
    return None


def loaded(blas: Path | None) -> bool:
    """Whether this very library is in this process; numpy brings an OpenBLAS that does not help."""
    if blas is None:
        return False
    try:
        maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return str(blas.resolve()) in maps


def preloading(environ: Mapping[str, str], blas: Path | None) -> dict[str, str] | None:
    """The environment to start again with, or None where there is nothing to gain.

    `MLXSRV_BLAS=off` turns it off; the mark that it leaves behind keeps a library that can't
    be preloaded from starting the process for ever.
    """
    if blas is None or environ.get(SWITCH, "").lower() in {OFF, DONE}:
        return None
    before = environ.get("LD_PRELOAD", "")
    preload = f"{blas}:{before}" if before else str(blas)
    return {**environ, "LD_PRELOAD": preload, SWITCH: DONE}


def settle(environ: MutableMapping[str, str], blas: Path | None) -> None:
    """Takes back what `preloading` set, so that child processes start as the user's would."""
    if environ.get(SWITCH) != DONE:
        return
    del environ[SWITCH]
    rest = [part for part in environ.get("LD_PRELOAD", "").split(":") if part != str(blas)]
    if any(rest):
        environ["LD_PRELOAD"] = ":".join(rest)
    else:
        environ.pop("LD_PRELOAD", None)


def ensure() -> None:
    """Executes this process again with OpenBLAS, unless it is there or can't be had.

    Call before any thread is started and before MLX is imported.
    """
    blas = library()
    environment = None if loaded(blas) else preloading(os.environ, blas)
    if environment is None:
        settle(os.environ, blas)
        return
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)
