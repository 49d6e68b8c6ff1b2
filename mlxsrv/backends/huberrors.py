"""What can go wrong between this machine and the hub, said so that the user can act on it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mlxsrv.backends import hubcache
from mlxsrv.core.errors import HubUnreachable, LoadError, ModelNotFound


def transport_error() -> type[Exception]:
    """What the hub client's HTTP library raises; which library differs by its version."""
    from huggingface_hub.errors import HfHubHTTPError

    base: type[Exception] = HfHubHTTPError.__bases__[0]
    return base


@contextmanager
def explained(model_id: str, endpoint: str) -> Iterator[None]:
    """Turns what can go wrong on the way into an error that says what to do."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        yield
    except HfHubHTTPError as error:
        raise _answered(model_id, endpoint, error) from error
    except OfflineModeIsEnabled as error:
        raise _unreachable(model_id, endpoint, "HF_HUB_OFFLINE is set") from error
    except transport_error() as error:
        raise _unreachable(model_id, endpoint, str(error) or type(error).__name__) from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise LoadError(
                f"no space left for {model_id} in {hubcache.cache_folder()}: free some "
                "(`mlxsrv list`, `mlxsrv rm`), or set HF_HOME to another disk"
            ) from error
        raise LoadError(f"can't store {model_id}: {error}") from error


def _unreachable(model_id: str, endpoint: str, why: str) -> HubUnreachable:
    return HubUnreachable(
        f"can't reach {endpoint}: {why}. {model_id} is not on this machine: download it where "
        f"there is a network with `mlxsrv pull {model_id}`, or pass a folder"
    )


def _answered(model_id: str, endpoint: str, error: Any) -> LoadError | ModelNotFound:
    from huggingface_hub.errors import GatedRepoError, RevisionNotFoundError

    repo, revision = hubcache.split_revision(model_id)
    status = error.response.status_code
    if isinstance(error, GatedRepoError) or status == 403:
        return LoadError(
            f"{repo} is gated: accept its licence at {endpoint}/{repo}, then set HF_TOKEN to a "
            f"token of your account ({endpoint}/settings/tokens)"
        )
    if isinstance(error, RevisionNotFoundError):
        return ModelNotFound(f"{repo} has no revision {revision} at {endpoint}")
    if status in {401, 404}:
        return ModelNotFound(
            f"there is no model {repo} at {endpoint}, or it is private: then set HF_TOKEN to a "
            "token that may read it"
        )
    return _unreachable(model_id, endpoint, f"it answered {status}")
