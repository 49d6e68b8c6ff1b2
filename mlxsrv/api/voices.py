"""`GET /v1/audio/voices`."""

from __future__ import annotations

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from mlxsrv.api.disconnect import until_disconnect
from mlxsrv.api.documented import responses
from mlxsrv.api.limits import rate_limited
from mlxsrv.api.schemas.speech import VoiceList, VoiceObject
from mlxsrv.api.services import services_of
from mlxsrv.api.text import json_answer
from mlxsrv.core.kinds import Kind
from mlxsrv.engines.model import SpeechModel
from mlxsrv.registry import ModelInfo, Registry

router = APIRouter(tags=["audio"])


@router.get(
    "/v1/audio/voices",
    operation_id="voices",
    responses=responses(VoiceList),
    dependencies=[Depends(rate_limited)],
)
async def voices(request: Request, model: str | None = None) -> Response:
    """The voices of the models that speak, as far as they have been in memory; `model` loads one
    and lists no others."""
    registry = services_of(request).registry
    if model is not None:
        model = await registry.resolve(model, {Kind.TTS}, prefer=Kind.TTS)
        await until_disconnect(request, _load(registry, model))
    listed = [info for info in registry.list(Kind.TTS) if model in {None, info.name}]
    return json_answer(VoiceList(voices=[voice for info in listed for voice in _voices(info)]))


async def _load(registry: Registry, model: str) -> None:
    async with registry.lease(model, SpeechModel):
        return


def _voices(model: ModelInfo) -> list[VoiceObject]:
    known = model.speech.voices if model.speech is not None else ()
    return [{"id": one.id, "language": one.language, "model": model.name} for one in known]
