"""The demo models that come with the product."""

from __future__ import annotations

from pathlib import Path

import mlxsrv

DEMO = "demo"
"""Names the whole set on the command line, and the one of the right kind in a config."""


def builtin_models() -> dict[str, Path]:
    """Name → folder of every built-in model, in order of their names."""
    for root in roots():
        found = {config.parent.name: config.parent for config in sorted(root.glob("*/config.json"))}
        if found:
            return found
    return {}


def demo_set() -> dict[str, dict[str, object]]:
    """What is served where no model is named, as settings of each model by its name.

    Of the set only the chat model is loaded at start, the others as they are asked for.
    """
    entries: dict[str, dict[str, object]] = {
        name: {"path": str(folder), "preload": False} for name, folder in builtin_models().items()
    }
    if f"{DEMO}-chat" in entries:
        entries[f"{DEMO}-chat"].update(preload=True, aliases=(DEMO,))
    return entries


def builtin_folder(name: str, kind: str | None = None) -> Path | None:
    """The folder of a built-in model; `demo` is the demo model of that kind (chat if None)."""
    if name == DEMO:
        name = f"{DEMO}-{_NAMED.get(kind or 'chat', kind or 'chat')}"
    return builtin_models().get(name)


_NAMED = {"stt": "whisper"}
"""Kinds whose demo model is called after its architecture."""


def roots() -> tuple[Path, ...]:
    """Where shipped models may be: an installed wheel has them inside, a checkout beside it."""
    package = Path(mlxsrv.__file__).resolve().parent
    return package / "models", package.parent / "models"
