"""Finding the folder of what the configuration or a caller names. Blocks: runs on a thread."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mlxsrv.backends import builtin, checkpoint, hub, manifests
from mlxsrv.backends.checkpoint import Checkpoint
from mlxsrv.backends.select import Backend
from mlxsrv.config.settings import HubSettings, ModelSettings
from mlxsrv.config.sources import is_hub_id
from mlxsrv.core.errors import InvalidRequest, LoadError
from mlxsrv.core.kinds import SERVED_KINDS, Kind

PATH_STARTS = ("/", "./", "../", "~")


def configured(settings: ModelSettings, backend: Backend, report: hub.Report | None) -> Checkpoint:
    """What a configured model's path holds; downloads it where it has to. Raises LoadError."""
    folder = builtin.builtin_folder(settings.path, settings.type)
    if folder is None:
        name = hub_name(settings.path, backend)
        folder = hub.locate(name, download=True, progress=report)
    return checkpoint.read(folder)


def requested(
    settings: ModelSettings, backend: Backend, bounds: HubSettings, report: hub.Report | None
) -> Checkpoint:
    """What a caller's path or name stands for, inside the bounds set for callers.

    Raises InvalidRequest (`model`), ModelNotFound, LoadError.
    """
    folder = builtin.builtin_folder(settings.path, settings.type)
    if folder is None and settings.path.startswith(PATH_STARTS):
        folder = allowed_folder(settings.path, bounds.allowed_folders, param="model")
    if folder is None:
        name = hub_name(settings.path, backend)
        _require_hub_id(name, param="model")
        folder = hub.locate(name, download=bounds.allow_download, progress=report)
    return checkpoint.read(folder)


def with_kind(settings: ModelSettings) -> ModelSettings:
    """A recommended model is what its manifest says, unless the settings say otherwise."""
    manifest = manifests.find(settings.path)
    if manifest is None or settings.type is not None:
        return settings
    return settings.model_copy(update={"type": manifest.kind})


def adapter_folder(path: str, bounds: HubSettings | None) -> Path:
    """The folder of a LoRA adapter that is named by path or hub id; `bounds` are for callers.

    Raises InvalidRequest (`lora_path`), ModelNotFound, LoadError.
    """
    if bounds is None:
        return hub.locate_adapter(path, download=True)
    if path.startswith(PATH_STARTS):
        return allowed_folder(path, bounds.allowed_folders, param="lora_path")
    _require_hub_id(path, param="lora_path")
    return hub.locate_adapter(path, download=bounds.allow_download)


def allowed_folder(path: str, allowed: Sequence[Path], *, param: str) -> Path:
    """The folder at a path that came by API. Raises InvalidRequest, also for links that lead
    out of the folders that may be loaded from."""
    try:
        folder = Path(path).expanduser().resolve(strict=False)
        inside = any(folder.is_relative_to(root.resolve()) for root in allowed)
    except (OSError, RuntimeError, ValueError) as error:
        raise InvalidRequest(f"{param}: not a path: {path!r}", param=param) from error
    if not inside:
        raise InvalidRequest(
            f"{param}: {path} is not in a folder that requests may load from; whoever runs the "
            "server can name such folders with --allowed-folders",
            param=param,
        )
    if not folder.exists():
        raise InvalidRequest(f"{param}: there is no {path}", param=param)
    return folder


def hub_name(name: str, backend: Backend) -> str:
    """The hub id that a recommended model's short name stands for, or the name itself."""
    if "/" in name:
        return name
    return manifests.hub_id(name, backend) or name


def _require_hub_id(name: str, *, param: str) -> None:
    if not is_hub_id(name):
        raise InvalidRequest(
            f"{param}: {name!r} is neither the name of a model, nor a hub id "
            "(organisation/model), nor an absolute path",
            param=param,
        )


def require_served(found: Checkpoint, kind: Kind) -> None:
    """Raises LoadError where no route serves models of this kind."""
    if kind not in SERVED_KINDS:
        raise LoadError(f"{found.folder.name} is of type {kind}, which this version can't serve")
