"""The demo models that come with the product."""

from __future__ import annotations

from pathlib import Path

import mlxsrv

DEMO = "demo"
"""Names the whole set on the command line, and the one of the right kind in a config."""


def builtin_models() -> dict[str, Path]:
    """Name → folder of every built-in model, in order of their names.

    An installed wheel carries them inside the package, a checkout beside it.
    """
    package = Path(mlxsrv.__file__).resolve().parent
    for root in (package / "models", package.parent / "models"):
        found = {config.parent.name: config.parent for config in sorted(root.glob("*/config.json"))}
        if found:
            return found
    return {}


def builtin_folder(name: str, kind: str | None = None) -> Path | None:
    """The folder of a built-in model; `demo` is the demo model of that kind (chat if None)."""
    return builtin_models().get(f"{DEMO}-{kind or 'chat'}" if name == DEMO else name)
