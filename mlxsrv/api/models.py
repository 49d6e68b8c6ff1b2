"""`/v1/models`: what there is, and models that come and go."""

from __future__ import annotations

from fastapi import APIRouter, Depends
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from mlxsrv.api.access import note
from mlxsrv.api.body import StrictRoute
from mlxsrv.api.disconnect import until_disconnect
from mlxsrv.api.documented import responses
from mlxsrv.api.limits import admit, rate_limited
from mlxsrv.api.loading import load, load_events
from mlxsrv.api.modelobject import deleted_object, memory_object, model_object
from mlxsrv.api.schemas.management import (
    LoadModelRequest,
    ModelDeleted,
    ModelList,
    ModelObject,
    UnloadModelRequest,
)
from mlxsrv.api.services import port_kind, services_of
from mlxsrv.api.sse import open_stream
from mlxsrv.api.text import json_answer
from mlxsrv.registry import LoadRequest

router = APIRouter(route_class=StrictRoute, tags=["models"])


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
    answer: ModelList = {
        "object": "list",
        "data": [model_object(info) for info in infos],
        "memory": memory_object(services.registry.memory()),
    }
    return json_answer(answer)


@router.post(
    "/v1/models/load", operation_id="load_model", responses=responses(ModelObject, streams=True)
)
async def load_model(request: Request, body: LoadModelRequest) -> Response:
    """Loads a model, and waits until it serves. Of one that is there, sets `ttl` and `pin`."""
    admit(request)
    note(request, model=body.name or body.model)
    registry = services_of(request).registry
    wanted = LoadRequest(body.model, name=body.name, kind=body.kind, ttl=body.ttl, pin=body.pin)
    if body.stream:
        return await open_stream(request, load_events(registry, wanted))
    return json_answer(model_object(await until_disconnect(request, load(registry, wanted))))


@router.post("/v1/models/unload", operation_id="unload_model", responses=responses(ModelDeleted))
async def unload_model(request: Request, body: UnloadModelRequest) -> Response:
    """Takes a model off the list and out of memory, once its requests are done."""
    return await _unloaded(request, body.model, body.timeout)


@router.get("/v1/models/load", include_in_schema=False)
@router.get("/v1/models/unload", include_in_schema=False)
@router.delete("/v1/models/load", include_in_schema=False)
@router.delete("/v1/models/unload", include_in_schema=False)
async def refuse_other_methods() -> None:
    """Else these would be taken for the names of models."""
    raise HTTPException(405, headers={"Allow": "POST"})


@router.get(
    "/v1/models/{model_id:path}",
    operation_id="retrieve_model",
    responses=responses(ModelObject),
)
async def retrieve_model(request: Request, model_id: str) -> Response:
    """One model by its served name or an alias."""
    info = services_of(request).registry.info(model_id)
    admit(request)
    return json_answer(model_object(info))


@router.delete(
    "/v1/models/{model_id:path}",
    operation_id="delete_model",
    responses=responses(ModelDeleted),
)
async def delete_model(request: Request, model_id: str) -> Response:
    """The same as unloading it: its files stay where they are."""
    return await _unloaded(request, model_id, None)


async def _unloaded(request: Request, name: str, deadline: float | None) -> Response:
    registry = services_of(request).registry
    before = registry.info(name)
    note(request, model=before.name)
    admit(request)
    await until_disconnect(request, registry.unload(name, deadline=deadline))
    return json_answer(deleted_object(before))
