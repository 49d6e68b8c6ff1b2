"""How many tokens a model may read."""

from __future__ import annotations

from mlxsrv.backends.checkpoint import Checkpoint
from mlxsrv.config.settings import ModelSettings

DEFAULT_CONTEXT = 4096


def context_of(own: ModelSettings, found: Checkpoint) -> int:
    """The configured context in tokens, never more than the model was trained for."""
    trained = found.context_length
    wanted = own.context_length or trained or DEFAULT_CONTEXT
    return min(wanted, trained or wanted)
