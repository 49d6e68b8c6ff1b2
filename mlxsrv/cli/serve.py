"""`mlxsrv serve`: from the command line to running settings, and into the server."""

from __future__ import annotations

import argparse
from pathlib import Path

from mlxsrv import supervised
from mlxsrv.backends import blas, builtin, isolate, select
from mlxsrv.cli import flags
from mlxsrv.config.settings import Settings
from mlxsrv.config.sources import folder_name, is_hub_id
from mlxsrv.core.collector import uncollected
from mlxsrv.core.errors import ConfigError

Entries = dict[str, dict[str, object]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    # Every setting is a flag: the generated line would be a page long.
    parser.usage = "mlxsrv serve [MODEL ...] [--config FILE] [flags]"
    parser.add_argument(
        "models",
        nargs="*",
        metavar="MODEL",
        help="folder, hub id (org/name or org/name@revision), recommended or built-in model",
    )
    flags.add_model_flags(parser)
    flags.add_settings_flags(parser)


def run(args: argparse.Namespace) -> int:
    settings = resolve(args)
    if select.choose(settings.engine.backend).name == "mlx":
        blas.ensure()
        isolate.hide_torch()
    link = supervised.attach()
    if link is not None and not settings.api.supervise:
        link.release()
    fetch_models(settings)
    with uncollected():
        from mlxsrv.server import serve

    return serve(settings, link)


def resolve(args: argparse.Namespace) -> Settings:
    """Settings with at least one model: those named, the file's, or the demo set."""
    entries = model_entries(args)
    settings = flags.load_settings(args, entries)
    if settings.api.models:
        return settings
    return flags.load_settings(args, _demo_entries())


def model_entries(args: argparse.Namespace) -> Entries:
    """What the command line says of models. Raises ConfigError."""
    own = flags.given(args, "model_")
    named = list(args.models)
    if named == [builtin.DEMO] and not own and args.name is None:
        return _demo_entries()
    if (own or args.name is not None) and len(named) != 1:
        given = [flags.MODEL_FLAGS[key] for key in own] or ["--name"]
        raise ConfigError(f"{given[0]}: goes with exactly one MODEL, and {len(named)} are named")
    entries: Entries = {}
    for model in named:
        path = _path_of(model, own.get("type"))
        name = args.name or served_name(model)
        if name in entries:
            raise ConfigError(f"two MODELs would both be called {name}: give them names in a file")
        entries[name] = {"path": path, **own}
        flags.check_model_flags(entries[name])
    return entries


def served_name(model: str) -> str:
    """The hub id without its revision; for a folder its last part.

    A snapshot in the hub's cache is called by the id it was downloaded for.
    """
    if is_hub_id(model) and not Path(model).expanduser().exists():
        return model.partition("@")[0]
    path = Path(model).expanduser().absolute()
    name = folder_name(path)
    return name if is_hub_id(name) else path.resolve().name


def _path_of(model: str, kind: object) -> str:
    folder = None
    if not Path(model).expanduser().exists():
        folder = builtin.builtin_folder(model, str(kind) if kind is not None else None)
    return model if folder is None else str(folder)


def _demo_entries() -> Entries:
    entries = builtin.demo_set()
    if not entries:
        raise ConfigError(
            "no MODEL is named, and the built-in demo models are not installed: name a folder or "
            "a hub id, such as mlx-community/Qwen3-4B-4bit"
        )
    return entries


def fetch_models(settings: Settings) -> None:
    """Downloads what the settings name by hub id, before the server starts to answer."""
    # Not imported in vain by a process that executes itself again.
    from mlxsrv.backends import hub, manifests
    from mlxsrv.cli.bar import download_bar

    backend = select.choose(settings.engine.backend).name
    for model in settings.api.models.values():
        if not model.preload:
            continue
        path = manifests.hub_id(model.path, backend) or model.path
        parts = ((path, hub.locate), (model.adapter, hub.locate_adapter), (model.draft, hub.locate))
        for part, locate in parts:
            known = part is None or part in settings.api.models or builtin.builtin_folder(part)
            if part is not None and not known and is_hub_id(part):
                with download_bar() as report:
                    locate(part, download=True, progress=report)
