"""What the caller is told of an error."""

from __future__ import annotations

from mlxsrv.core.errors import GenerationFailed, MlxsrvError


def failure_of(error: BaseException, doing: str) -> MlxsrvError:
    """The error itself where it is written for callers; else one that says what the model was
    `doing`, such as "answered this request", and keeps the error as its cause."""
    if isinstance(error, MlxsrvError):
        return error
    failure = GenerationFailed(f"The model failed while it {doing}")
    failure.__cause__ = error
    return failure
