"""Getting one file of the hub into the cache, from the byte on where the last try stopped."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mlxsrv.backends.huberrors import transport_error
from mlxsrv.core.errors import LoadError

TIMEOUT_SECONDS = 10.0
"""For connecting, and for the silence between two chunks."""

ATTEMPTS = 3
"""Times that a connection may break without a byte gained before it is given up."""

CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """`blob` is the name the cache gives the content; `sha256` only for large files."""

    name: str
    size: int
    blob: str
    sha256: str | None


def fetch(url: str, file: RemoteFile, blob: Path, report: Callable[[int], None]) -> None:
    blob.parent.mkdir(parents=True, exist_ok=True)
    partial = blob.with_name(blob.name + ".incomplete")
    with partial.open("ab+") as sink:
        # Two processes that pull the same model share the file: the second one waits.
        fcntl.flock(sink, fcntl.LOCK_EX)
        if blob.exists():
            return
        _resume(url, file, sink, report)
        _verify(file, sink)
        partial.replace(blob)


def _resume(url: str, file: RemoteFile, sink: IO[bytes], report: Callable[[int], None]) -> None:
    broken = transport_error()
    failures = 0
    while (start := sink.seek(0, os.SEEK_END)) < file.size:
        try:
            _stream(url, start, sink, report)
        except broken as error:
            if getattr(error, "response", None) is not None:
                raise
            failures = 0 if sink.tell() > start else failures + 1
            if failures >= ATTEMPTS:
                raise
        else:
            if sink.tell() <= start:
                break


def _stream(url: str, start: int, sink: IO[bytes], report: Callable[[int], None]) -> None:
    from huggingface_hub import get_session, get_token, hf_raise_for_status

    # A compressed answer could not be continued at a byte of the file.
    headers = {"Accept-Encoding": "identity"}
    token = get_token()
    if token:
        headers["Authorization"] = f"Bearer {token}"
    if start:
        headers["Range"] = f"bytes={start}-"
    with get_session().stream("GET", url, headers=headers, timeout=TIMEOUT_SECONDS) as answer:
        hf_raise_for_status(answer)
        if start and answer.status_code != 206:
            sink.truncate(0)
        # As the bytes come: what a fixed chunk size holds back is lost when the line breaks.
        for chunk in answer.iter_bytes():
            sink.write(chunk)
            report(sink.tell())


def _verify(file: RemoteFile, sink: IO[bytes]) -> None:
    """Raises LoadError, and drops what was fetched, where it is not what the hub promised."""
    sink.flush()
    size = sink.seek(0, os.SEEK_END)
    if size == file.size and file.sha256 in {None, _sha256(sink)}:
        return
    sink.truncate(0)
    raise LoadError(
        f"{file.name} arrived damaged ({size} bytes of {file.size}, or another content than the "
        "hub promised): try again"
    )


def _sha256(stream: IO[bytes]) -> str:
    stream.seek(0)
    digest = hashlib.sha256()
    while chunk := stream.read(CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


def link(blob: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    target = os.path.relpath(blob, place.parent)
    if place.is_symlink() and place.readlink() == Path(target):
        return
    place.unlink(missing_ok=True)
    place.symlink_to(target)
