"""Loading whichever encoder a checkpoint holds."""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from mlxsrv.backends.encoding import Batch
from mlxsrv.backends.mlx.encoder import Encoder
from mlxsrv.backends.mlx.encoder_shape import FAMILIES, shape_of
from mlxsrv.backends.mlx.encoder_weights import encoder_arrays, fill, read_arrays
from mlxsrv.core.errors import GenerationFailed, LoadError


@contextlib.contextmanager
def loading_errors(folder: Path) -> Iterator[None]:
    """What MLX and its libraries raise for weights that don't fit becomes a LoadError."""
    try:
        yield
    except (ValueError, LookupError, TypeError, RuntimeError, OSError, AttributeError) as error:
        # Some name every tensor that is missing.
        reason = textwrap.shorten(str(error), 400)
        raise LoadError(f"MLX can't load {folder.name}: {reason}") from error
    except GenerationFailed as error:
        raise LoadError(
            f"{folder.name} gives no numbers at all: its weights are damaged"
        ) from error


@dataclass(frozen=True, slots=True)
class LoadedEncoder:
    """`encode` gives hidden states [rows, width of the batch, `width`] with `model`."""

    encode: Callable[[Batch], mx.array]
    model: nn.Module
    vocab_size: int
    width: int


def load_encoder(folder: Path, config: Mapping[str, Any]) -> Generator[int, None, LoadedEncoder]:
    """Yields the bytes read so far. Raises LoadError, and what MLX does."""
    if config.get("model_type") in FAMILIES:
        shape = shape_of(config)
        encoder = Encoder(shape)
        yield from fill(encoder, encoder_arrays(read_arrays(folder)), config)
        return LoadedEncoder(encoder, encoder, shape.vocabulary, shape.width)
    # mlx-lm takes its time to import, and encoders do without it.
    from mlxsrv.backends.mlx.encoder_lm import load_language_encoder

    language = yield from load_language_encoder(folder, config)
    return LoadedEncoder(
        language, language.model, int(config["vocab_size"]), int(config["hidden_size"])
    )
