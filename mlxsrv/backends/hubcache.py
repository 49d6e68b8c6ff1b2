"""The user's Hugging Face cache, read from its folders: no network, no import of the client.

Layout (https://huggingface.co/docs/huggingface_hub/guides/manage-cache): one folder a model,
`models--ORG--NAME`, in it `refs/REVISION` (a commit), `snapshots/COMMIT/…` (links) and `blobs/`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mlxsrv.backends import checkpoint
from mlxsrv.core.errors import CheckpointRefused, LoadError, ModelNotFound

DEFAULT_REVISION = "main"
_TOKENIZERS = ("tokenizer*", "vocab*", "*.model", "*.tiktoken", "preprocessor_config.json")


@dataclass(frozen=True, slots=True)
class CachedModel:
    """A model in the cache; `size` in bytes on disk, `folder` its newest complete snapshot."""

    id: str
    size: int
    root: Path
    folder: Path | None


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the cache is, by the variables that every Hugging Face library honours."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if environ.get(variable):
            return Path(environ[variable]).expanduser()
    home = environ.get("HF_HOME")
    if home:
        return Path(home).expanduser() / "hub"
    cache = environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "huggingface" / "hub"


def split_revision(model_id: str) -> tuple[str, str | None]:
    """`org/name@revision` as a pair."""
    repo, _, revision = model_id.partition("@")
    return repo, revision or None


def repo_folder(repo: str) -> Path:
    return cache_folder() / ("models--" + repo.replace("/", "--"))


def find(model_id: str) -> Path | None:
    """A complete snapshot of `model_id`, or None.

    Without a revision `main` is preferred, then the newest snapshot there is.
    """
    repo, revision = split_revision(model_id)
    root = repo_folder(repo)
    return next((folder for folder in _snapshots(root, revision) if is_complete(folder)), None)


def find_adapter(adapter_id: str) -> Path | None:
    """The folder of a LoRA adapter in the cache."""
    repo, revision = split_revision(adapter_id)
    folders = _snapshots(repo_folder(repo), revision)
    return next((f for f in folders if _is_adapter(f)), None)


def _is_adapter(folder: Path) -> bool:
    """Those of image models are often nothing but their weights, which come last."""
    if (folder / "adapter_config.json").exists():
        return True
    return not (folder / "config.json").exists() and any(folder.glob("*.safetensors"))


def find_tokenizer(model_id: str) -> Path | None:
    """The folder of a model's tokenizer in the cache, be the model itself there or not."""
    repo, revision = split_revision(model_id)
    folders = _snapshots(repo_folder(repo), revision)
    return next((f for f in folders if (f / "tokenizer.json").exists()), None)


def _snapshots(root: Path, revision: str | None) -> Iterator[Path]:
    wanted = revision or DEFAULT_REVISION
    with suppress(OSError, ValueError):
        yield root / "snapshots" / (root / "refs" / wanted).read_text(encoding="ascii").strip()
    snapshots = root / "snapshots"
    if revision is None:
        folders = [folder for folder in snapshots.glob("*") if folder.is_dir()]
        yield from sorted(folders, key=lambda folder: folder.stat().st_mtime, reverse=True)
    elif len(revision) >= 7:
        yield from sorted(snapshots.glob(f"{revision}*"))


def is_complete(folder: Path) -> bool:
    """Whether every file that serving needs is there.

    A snapshot of a format that is refused counts as complete: what stands in the way is the
    format, and the refusal says so better than a download that can't help.
    """
    if not folder.is_dir() or any(not file.exists() for file in folder.rglob("*")):
        return False
    try:
        found = checkpoint.read(folder)
    except CheckpointRefused:
        return True
    except LoadError:
        return False
    needs_tokenizer = found.context_length is not None
    return not needs_tokenizer or any(any(folder.glob(name)) for name in _TOKENIZERS)


def cached() -> list[CachedModel]:
    """Every model in the cache, by name."""
    models = []
    for root in sorted(cache_folder().glob("models--*--*")):
        model_id = root.name.removeprefix("models--").replace("--", "/", 1)
        models.append(CachedModel(model_id, _size(root), root, find(model_id)))
    return models


def remove(model_id: str) -> int:
    """Deletes a model from the cache, every revision of it, and gives the bytes freed.

    Raises ModelNotFound where it is not there, LoadError where it can't be deleted.
    """
    repo, _ = split_revision(model_id)
    root = repo_folder(repo)
    if not root.is_dir():
        raise ModelNotFound(f"{repo} is not in {cache_folder()}")
    size = _size(root)
    try:
        shutil.rmtree(root)
    except OSError as error:
        raise LoadError(f"can't delete {root}: {error.strerror}") from error
    shutil.rmtree(root.parent / ".locks" / root.name, ignore_errors=True)
    return size


def _size(root: Path) -> int:
    files = (Path(folder) / name for folder, _, names in os.walk(root) for name in names)
    return sum(file.lstat().st_size for file in files if not file.is_symlink())
