"""`/v1/lora`: adapters beside their base models."""

from __future__ import annotations

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from mlxsrv.api.access import note
from mlxsrv.api.body import StrictRoute
from mlxsrv.api.disconnect import until_disconnect
from mlxsrv.api.documented import responses
from mlxsrv.api.limits import admit, rate_limited
from mlxsrv.api.schemas.management import (
    AdapterList,
    AdapterObject,
    LoadAdapterRequest,
    UnloadAdapterRequest,
)
from mlxsrv.api.services import services_of
from mlxsrv.api.text import json_answer
from mlxsrv.registry import AdapterInfo

router = APIRouter(route_class=StrictRoute, tags=["models"])


@router.get(
    "/v1/lora",
    operation_id="list_adapters",
    responses=responses(AdapterList),
    dependencies=[Depends(rate_limited)],
)
async def list_adapters(request: Request) -> Response:
    """Every adapter that is served."""
    adapters = services_of(request).registry.adapters()
    answer: AdapterList = {"object": "list", "data": [_object(info) for info in adapters]}
    return json_answer(answer)


@router.post("/v1/lora/load", operation_id="load_adapter", responses=responses(AdapterObject))
@router.post("/v1/load_lora_adapter", include_in_schema=False)
async def load_adapter(request: Request, body: LoadAdapterRequest) -> Response:
    """Serves an adapter under its own name, beside its base and in one batch with it.

    The second path is vLLM's.
    """
    admit(request)
    note(request, model=body.lora_name)
    loading = services_of(request).registry.load_adapter(
        body.model, body.lora_name, body.lora_path, body.scale
    )
    return json_answer(_object(await until_disconnect(request, loading)))


@router.post("/v1/lora/unload", operation_id="unload_adapter", responses=responses(AdapterObject))
@router.post("/v1/unload_lora_adapter", include_in_schema=False)
async def unload_adapter(request: Request, body: UnloadAdapterRequest) -> Response:
    """Takes an adapter off the list, once its requests are done."""
    admit(request)
    note(request, model=body.lora_name)
    unloading = services_of(request).registry.unload_adapter(body.lora_name, body.model)
    answer = _object(await until_disconnect(request, unloading))
    return json_answer({**answer, "deleted": True})


def _object(info: AdapterInfo) -> AdapterObject:
    return {
        "id": info.name,
        "object": "lora",
        "model": info.base,
        "path": info.path,
        "scale": info.scale,
        "rank": info.rank,
        "memory_bytes": info.memory_bytes,
        "state": info.state,
    }
