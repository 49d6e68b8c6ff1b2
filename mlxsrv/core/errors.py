"""Every error the product raises on purpose.

::

    MlxsrvError
    ├── InvalidRequest           the caller's body or parameter is wrong; `param` names the field
    │   ├── ContextLengthExceeded
    │   ├── TooLargeForMemory    no amount of waiting makes it fit
    │   └── Unsupported          a field that would change the result and is not served
    ├── Unauthenticated
    ├── Forbidden
    ├── NotFound
    │   ├── ModelNotFound
    │   └── KindNotLoaded
    ├── MethodNotAllowed
    ├── Conflict
    ├── TooLarge
    ├── UnsupportedMedia
    ├── RateLimited              `retry_after` in seconds
    ├── Unavailable              try again later; `retry_after` in seconds where known
    │   ├── Overloaded
    │   ├── InsufficientMemory   models and requests that are there leave too little
    │   ├── ShuttingDown
    │   └── DeviceDead
    ├── GenerationFailed         one request's own step failed; others go on
    ├── LoadError                a checkpoint that can't be served
    │   ├── CheckpointRefused    a format or a content we never load
    │   └── HubUnreachable
    └── ConfigError              found at start; names file, line and key

`mlxsrv.api.errors` is the one place that turns these into status codes and envelopes.
"""

from __future__ import annotations


class MlxsrvError(Exception):
    """Base of all. `message` is written for the caller; `param` names the field at fault."""

    code: str | None = None

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after
        if code is not None:
            self.code = code


class InvalidRequest(MlxsrvError):
    code = "invalid_value"


class ContextLengthExceeded(InvalidRequest):
    code = "context_length_exceeded"


class TooLargeForMemory(InvalidRequest):
    code = "too_large_for_memory"


class Unsupported(InvalidRequest):
    code = "unsupported_parameter"


class Unauthenticated(MlxsrvError):
    code = "invalid_api_key"


class Forbidden(MlxsrvError):
    code = "forbidden"


class NotFound(MlxsrvError):
    code = "not_found"


class ModelNotFound(NotFound):
    code = "model_not_found"


class KindNotLoaded(NotFound):
    code = "model_not_loaded"


class MethodNotAllowed(MlxsrvError):
    code = "method_not_allowed"


class Conflict(MlxsrvError):
    code = "conflict"


class TooLarge(MlxsrvError):
    code = "request_too_large"


class UnsupportedMedia(MlxsrvError):
    code = "unsupported_media_type"


class RateLimited(MlxsrvError):
    code = "rate_limit_exceeded"


class Unavailable(MlxsrvError):
    code = "unavailable"


class Overloaded(Unavailable):
    code = "overloaded"


class InsufficientMemory(Unavailable):
    code = "insufficient_memory"


class ShuttingDown(Unavailable):
    code = "shutting_down"


class DeviceDead(Unavailable):
    code = "device_dead"


class GenerationFailed(MlxsrvError):
    code = "generation_failed"


class LoadError(MlxsrvError):
    code = "model_load_failed"


class CheckpointRefused(LoadError):
    code = "checkpoint_refused"


class HubUnreachable(LoadError):
    code = "hub_unreachable"


class ConfigError(MlxsrvError):
    """A setting that can't be used; the message already says where it stands."""

    code = "config"
