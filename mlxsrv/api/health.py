"""`GET /health`: whether this server can answer, for load balancers and supervisors."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse

from mlxsrv import __version__
from mlxsrv.api.services import Services, services_of

router = APIRouter(tags=["operation"])


@router.get("/health", response_class=JSONResponse)
@router.head("/health", include_in_schema=False)
async def health(request: Request) -> JSONResponse:
    """200 once requests are answered; 503 while loading, draining, or with a dead device."""
    services = services_of(request)
    status = status_of(services)
    body = {
        "status": status,
        "version": __version__,
        "backend": services.backend,
        "models": dict(services.registry.models_by_state()),
        "in_flight": services.lifecycle.in_flight,
    }
    return JSONResponse(body, 200 if status == "ok" else 503)


def status_of(services: Services) -> str:
    if services.registry.state() == "loading":
        return "loading"
    if not services.device.alive:
        return "dead"
    return "draining" if services.lifecycle.draining else "ok"
