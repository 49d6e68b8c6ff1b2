"""Models by hub id: from the user's cache, or downloaded into it.

Files are fetched one after the other into `blobs/HASH.incomplete`, small ones first, and
linked into the snapshot when they are whole. So a download that was cut off, by whatever,
goes on at the byte where it stopped, and a snapshot without its weights is never complete.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from mlxsrv.backends import hubcache
from mlxsrv.backends.huberrors import explained
from mlxsrv.backends.hubfetch import TIMEOUT_SECONDS, RemoteFile, fetch, link
from mlxsrv.backends.pipeline import INDEX
from mlxsrv.backends.weights import PACKED_WEIGHTS, one_variant
from mlxsrv.core.errors import CheckpointRefused, LoadError, ModelNotFound

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_WANTED = ("*.json", "*.safetensors", "*.jinja", "*.txt", "*.model", "*.tiktoken")
_UNWANTED = ("consolidated*.safetensors", "original/*", "onnx/*", "openvino/*", ".*")
_WEIGHTS = (".safetensors", PACKED_WEIGHTS)
_REFUSED = (".bin", ".pt", ".pth", ".ckpt", ".gguf")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a download is, in bytes over all its files."""

    file: str
    done: int
    total: int


Report = Callable[[Progress], None]


def locate(path_or_id: str, *, download: bool, progress: Report | None = None) -> Path:
    """The folder of a model that is named by path or hub id (`org/name[@revision]`).

    A model that is whole in the cache is taken from there without any look at the network.
    Raises LoadError, HubUnreachable or ModelNotFound with what to do about it.
    """
    path = Path(path_or_id).expanduser()
    if path.exists():
        return path
    folder = hubcache.find(path_or_id)
    if folder is not None:
        return folder
    if not download:
        raise ModelNotFound(
            f"{path_or_id} is not on this machine: get it with `mlxsrv pull {path_or_id}`"
        )
    return pull(path_or_id, progress)


def locate_adapter(path_or_id: str, *, download: bool, progress: Report | None = None) -> Path:
    """The folder of a LoRA adapter; like `locate`."""
    path = Path(path_or_id).expanduser()
    if path.exists():
        return path
    folder = hubcache.find_adapter(path_or_id)
    if folder is not None:
        return folder
    if not download:
        raise ModelNotFound(
            f"{path_or_id} is not on this machine: get it with `mlxsrv pull {path_or_id}`"
        )
    return pull(path_or_id, progress)


def pull(model_id: str, progress: Report | None = None) -> Path:
    """Downloads what is missing of a model and gives its folder. Raises as `locate`."""
    from huggingface_hub import HfApi

    repo, revision = hubcache.split_revision(model_id)
    api = HfApi()
    with explained(model_id, api.endpoint):
        commit, listed = _listing(api, repo, revision)
    files = _of_pipeline(listed)
    _require_servable(model_id, [file.name for file in files])
    wanted = _wanted(files)
    root = hubcache.repo_folder(repo)
    with explained(model_id, api.endpoint):
        _require_space(root, wanted)
        _download(api, repo, commit, wanted, root, progress)
        _write(root / "refs" / (revision or hubcache.DEFAULT_REVISION), commit)
    return root / "snapshots" / commit


def _listing(api: HfApi, repo: str, revision: str | None) -> tuple[str, list[RemoteFile]]:
    info = api.model_info(
        repo,
        revision=revision or hubcache.DEFAULT_REVISION,
        files_metadata=True,
        timeout=TIMEOUT_SECONDS,
    )
    if info.sha is None or info.siblings is None:
        raise LoadError(f"the hub's answer about {repo} lists no files")
    files = []
    for sibling in info.siblings:
        sha256 = sibling.lfs.sha256 if sibling.lfs is not None else None
        blob = sha256 or sibling.blob_id
        if blob is None or not blob.isalnum() or not _is_inside(sibling.rfilename):
            raise LoadError(f"the hub's answer about {repo} is malformed at {sibling.rfilename!r}")
        files.append(RemoteFile(sibling.rfilename, sibling.size or 0, blob, sha256))
    return info.sha, files


def _is_inside(name: str) -> bool:
    return not name.startswith("/") and ".." not in Path(name).parts


def _require_servable(model_id: str, names: list[str]) -> None:
    if any(name.endswith(".safetensors") for name in names) or PACKED_WEIGHTS in names:
        return
    refused = sorted({Path(name).suffix for name in names if name.endswith(_REFUSED)})
    what = f"only {' and '.join(refused)} files" if refused else "no model weights"
    raise CheckpointRefused(
        f"{model_id} has {what}: use a version of it with safetensors weights "
        "(many are at https://huggingface.co/mlx-community)"
    )


def _of_pipeline(files: list[RemoteFile]) -> list[RemoteFile]:
    """Of an image model in parts, the parts: beside them often stands the whole once more in one
    file, and in a part its weights in several precisions."""
    if all(file.name != INDEX for file in files):
        return files
    parts: dict[str, list[str]] = {}
    for file in files:
        place, _, name = file.name.partition("/")
        if name and "/" not in name:
            parts.setdefault(place, []).append(name)
    kept = {INDEX}
    for place, names in parts.items():
        weights = [name for name in names if name.endswith(".safetensors")]
        spare = set(weights).difference(one_variant(weights))
        kept.update(f"{place}/{name}" for name in names if name not in spare)
    return [file for file in files if file.name in kept]


def _wanted(files: Iterable[RemoteFile]) -> list[RemoteFile]:
    """What serving needs, the weights last: until they are there the rest is worth nothing."""
    files = list(files)
    # The first conversions to mlx-whisper have nothing else.
    packed = not any(file.name.endswith(".safetensors") for file in files)
    wanted = (*_WANTED, *((PACKED_WEIGHTS,) if packed else ()))
    chosen = [
        file
        for file in files
        if any(fnmatch(file.name, pattern) for pattern in wanted)
        and not any(fnmatch(file.name, pattern) for pattern in _UNWANTED)
    ]
    return sorted(chosen, key=lambda file: (file.name.endswith(_WEIGHTS), file.name))


def _require_space(root: Path, files: Iterable[RemoteFile]) -> None:
    root.mkdir(parents=True, exist_ok=True)
    missing = sum(file.size for file in files if not (root / "blobs" / file.blob).exists())
    if missing > shutil.disk_usage(root).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(root))


def _download(
    api: HfApi,
    repo: str,
    commit: str,
    files: list[RemoteFile],
    root: Path,
    progress: Report | None,
) -> None:
    total, before = sum(file.size for file in files), 0
    for file in files:

        def report(done: int, file: RemoteFile = file, before: int = before) -> None:
            if progress is not None:
                progress(Progress(file.name, before + done, total))

        blob = root / "blobs" / file.blob
        if not blob.exists():
            url = f"{api.endpoint}/{repo}/resolve/{commit}/{file.name}"
            fetch(url, file, blob, report)
        report(file.size)
        link(blob, root / "snapshots" / commit / file.name)
        before += file.size


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="ascii")
