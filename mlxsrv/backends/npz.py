"""Headers of npz archives, in which the first conversions to mlx-whisper keep their weights.

Format: a zip file of npy files (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html).
"""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import IO, TYPE_CHECKING

from mlxsrv.backends.headers import Tensor
from mlxsrv.core.errors import CheckpointRefused, LoadError

if TYPE_CHECKING:
    import numpy as np

_DTYPES = {"f2": "F16", "f4": "F32", "f8": "F64", "u4": "U32", "i4": "I32", "i8": "I64"}


def read_npz_header(file: Path) -> list[Tensor]:
    """The arrays of `file`, named as safetensors names them, without reading one.

    Raises LoadError where the file is truncated or corrupt, CheckpointRefused for pickles.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            return [_tensor(file, archive, entry) for entry in archive.infolist()]
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError) as error:
        raise LoadError(f"{file} is not a valid npz file: {error}") from error
    except OSError as error:
        raise LoadError(f"can't read {file}: {error.strerror}") from error


def _tensor(file: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Tensor:
    with archive.open(entry) as stream:
        shape, dtype = _header(stream)
        begin = stream.tell()
    if dtype.hasobject:
        raise CheckpointRefused(f"{file} has pickled objects, which can run code as they are read")
    size = math.prod(shape) * dtype.itemsize
    if entry.file_size != begin + size:
        raise ValueError(f"the size of {entry.filename} does not fit its shape")
    kind = f"{dtype.kind}{dtype.itemsize}"
    name = entry.filename.removesuffix(".npy")
    return Tensor(name, _DTYPES.get(kind, kind.upper()), shape, size)


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    # Reading a folder's headers is part of commands that are to be instant.
    from numpy.lib import format as npy

    version = npy.read_magic(stream)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(stream)
    return shape, dtype
