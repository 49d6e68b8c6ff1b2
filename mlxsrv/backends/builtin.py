"""The demo models that come with the product, and espeak-ng where it is installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import mlxsrv
from mlxsrv.core.errors import LoadError

ESPEAK = "espeak"
DEMO = "demo"
"""Names the whole set on the command line, and the one of the right kind in a config."""

_MAIN_FILES = ("config.json", "model_index.json")

INSTALL_ESPEAK = "pip install 'mlxsrv[espeak]'"


def builtin_models() -> dict[str, Path]:
    """Name → folder of every built-in model, in order of their names."""
    espeak = espeak_folder()
    return demo_models() | ({} if espeak is None else {ESPEAK: espeak})


def demo_models() -> dict[str, Path]:
    """Those that were trained for this server."""
    for root in roots():
        folders = {file.parent for name in _MAIN_FILES for file in root.glob(f"*/{name}")}
        if folders:
            return {folder.name: folder for folder in sorted(folders)}
    return {}


def demo_set() -> dict[str, dict[str, object]]:
    """What is served where no model is named, as settings of each model by its name.

    Only the chat model and espeak, which takes no time, are loaded at start, the others as they
    are asked for.
    """
    entries: dict[str, dict[str, object]] = {
        name: {"path": str(folder), "preload": name == ESPEAK}
        for name, folder in builtin_models().items()
    }
    if f"{DEMO}-chat" in entries:
        entries[f"{DEMO}-chat"].update(preload=True, aliases=(DEMO,))
    return entries


def builtin_folder(name: str, kind: str | None = None) -> Path | None:
    """The folder of a built-in model; `demo` is the demo model of that kind (chat if None).

    Raises LoadError for `espeak` where it is not installed.
    """
    if name == ESPEAK and espeak_folder() is None:
        raise LoadError(f"espeak is not installed: {INSTALL_ESPEAK}")
    if name == DEMO:
        name = _NAMED.get(kind or "", f"{DEMO}-{kind or 'chat'}")
    return builtin_models().get(name)


_NAMED = {"stt": f"{DEMO}-whisper", "tts": ESPEAK}
"""Kinds whose demo model is not called after them."""


def espeak_folder() -> Path | None:
    """Where espeak-ng's data are; None where it is not installed."""
    if find_spec("espeakng_loader") is None:
        return None
    import espeakng_loader

    return Path(espeakng_loader.get_data_path())


def roots() -> tuple[Path, ...]:
    """Where shipped models may be: an installed wheel has them inside, a checkout beside it."""
    package = Path(mlxsrv.__file__).resolve().parent
    return package / "models", package.parent / "models"
