"""Multipart bodies: small text fields, and files that lie on disk rather than in memory."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Mapping
from contextlib import AsyncExitStack

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request

from mlxsrv.core.errors import InvalidRequest, UnsupportedMedia

MAX_FILES = 16
MAX_FIELDS = 200


class Upload:
    """A file that came with a request, until that has been answered."""

    def __init__(self, part: UploadFile) -> None:
        self.name = part.filename or ""
        self.size = part.size or 0
        self._file = part.file
        self._lock = threading.Lock()
        self._closed = False

    def open(self) -> io.RawIOBase:
        """The file from its beginning, for the caller to close; one reader at a time.

        From any thread. Raises InvalidRequest once the request is over.
        """
        with self._lock:
            if self._closed:
                raise InvalidRequest("The upload has been dropped", param="file")
            number = self._file.fileno()  # which puts a small file on disk, too
            self._file.flush()
            return os.fdopen(os.dup(number), "rb", buffering=0)

    def close(self) -> None:
        """Drops the file; readers keep what they have opened."""
        with self._lock:
            self._closed = True
            self._file.close()


class Form:
    """The fields of a body, as text, and its files."""

    def __init__(self, data: FormData) -> None:
        self._data = data
        self.uploads = [
            (name, Upload(value))
            for name, value in data.multi_items()
            if isinstance(value, UploadFile)
        ]

    def __contains__(self, name: str) -> bool:
        return name in self._data

    def fields(self, lists: Mapping[str, str] | None = None) -> dict[str, str | list[str]]:
        """The text fields. Empty ones count as left out, as web forms mean them.

        `lists` says which fields may come more than once, and what they are called then. Raises
        InvalidRequest for another that does.
        """
        lists = lists or {}
        found: dict[str, str | list[str]] = {}
        for name, value in self._data.multi_items():
            if not isinstance(value, str) or not value.strip():
                continue
            if name in lists:
                several = found.setdefault(lists[name], [])
                assert isinstance(several, list)
                several.append(value)
            elif name in found:
                raise InvalidRequest(f"{name}: is given twice", param=name)
            else:
                found[name] = value
        return found

    def upload(self, name: str) -> Upload:
        """Raises InvalidRequest where there is no such file, or more than one."""
        found = [upload for one, upload in self.uploads if one == name]
        if len(found) == 1:
            return found[0]
        if found:
            raise InvalidRequest(f"{name}: is given twice", param=name)
        reason = "should be a file, not text" if name in self._data else "is required"
        raise InvalidRequest(f"{name}: {reason}: send it as multipart/form-data", param=name)


async def read_form(request: Request, held: AsyncExitStack) -> Form:
    """Reads a multipart body; its files are gone when `held` ends.

    Raises UnsupportedMedia and InvalidRequest.
    """
    given = request.headers.get("content-type", "")
    if given.partition(";")[0].strip().lower() != "multipart/form-data":
        what = f"Content-Type {given!r} is not served here" if given else "There is no Content-Type"
        raise UnsupportedMedia(f"{what}: send multipart/form-data")
    form = Form(await request.form(max_files=MAX_FILES, max_fields=MAX_FIELDS))
    for _, upload in form.uploads:
        held.callback(upload.close)
    return form
