"""`GET /v1/models` and `/v1/models/{id}`."""

from __future__ import annotations

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from mlxsrv.api.documented import responses
from mlxsrv.api.limits import admit, rate_limited
from mlxsrv.api.schemas.answers import ModelList, ModelObject
from mlxsrv.api.services import port_kind, services_of
from mlxsrv.api.text import json_answer
from mlxsrv.registry import ModelInfo

router = APIRouter(tags=["models"])


@router.get(
    "/v1/models",
    operation_id="list_models",
    responses=responses(ModelList),
    dependencies=[Depends(rate_limited)],
)
async def list_models(request: Request) -> Response:
    """Every model that is served; on a split port, those of the port's own kind."""
    services = services_of(request)
    infos = services.registry.list(port_kind(request.scope, services))
    return json_answer({"object": "list", "data": [_object(info) for info in infos]})


@router.get(
    "/v1/models/{model_id:path}",
    operation_id="retrieve_model",
    responses=responses(ModelObject),
)
async def retrieve_model(request: Request, model_id: str) -> Response:
    """One model by its served name or an alias."""
    info = services_of(request).registry.info(model_id)
    admit(request)
    return json_answer(_object(info))


def _object(info: ModelInfo) -> ModelObject:
    return {
        "id": info.name,
        "object": "model",
        "created": info.created,
        "owned_by": "mlxsrv",
        "type": str(info.kind),
        "state": info.state,
        "aliases": list(info.aliases),
        "memory_bytes": info.memory_bytes,
        "context_length": info.context_length,
        "backend": info.backend,
        "quantization": info.quantization,
        "description": info.description,
    }
