"""`POST /v1/images/generations`, `/v1/images/edits` and `/v1/images/variations`."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from mlxsrv.api.body import StrictRoute
from mlxsrv.api.documented import form_body, pictures
from mlxsrv.api.imageanswers import answer
from mlxsrv.api.imageforms import read_fields, read_mask, read_pictures
from mlxsrv.api.imagewanted import Wanted
from mlxsrv.api.schemas.images import (
    RANDOM_SEED,
    EditFields,
    ImageBody,
    Images,
    PictureFields,
    VariationFields,
)
from mlxsrv.api.services import services_of

VARIATION_STRENGTH = 0.6

router = APIRouter(route_class=StrictRoute, tags=["images"])


@router.post(
    "/v1/images/generations",
    operation_id="generations",
    response_class=Response,
    responses=pictures(Images),
)
async def generations(request: Request, body: ImageBody) -> Response:
    """Pictures of what a text says."""
    return await answer(request, body, wanted(body), "image_generation")


@router.post(
    "/v1/images/edits",
    operation_id="edits",
    response_class=Response,
    responses=pictures(Images),
    openapi_extra=form_body(EditFields, "image", optional=("mask",)),
)
async def edits(request: Request) -> Response:
    """Pictures made of others: the whole, or the part that a mask marks."""
    services = services_of(request)
    async with AsyncExitStack() as held:
        fields, form = await read_fields(request, EditFields, held)
        given = await read_pictures(form, services)
        mask = await read_mask(form, given[0], services)
    asked = replace(
        wanted(fields), strength=fields.strength, pictures=given, mask=mask, own_mask=True
    )
    return await answer(request, fields, asked, "image_edit")


@router.post(
    "/v1/images/variations",
    operation_id="variations",
    response_class=Response,
    responses=pictures(Images),
    openapi_extra=form_body(VariationFields, "image"),
)
async def variations(request: Request) -> Response:
    """Pictures like another one."""
    services = services_of(request)
    async with AsyncExitStack() as held:
        fields, form = await read_fields(request, VariationFields, held)
        given = await read_pictures(form, services)
    asked = replace(
        wanted(fields),
        strength=fields.strength,
        usual_strength=VARIATION_STRENGTH,
        pictures=given,
    )
    return await answer(request, fields, asked, "image_edit")


def wanted(fields: PictureFields) -> Wanted:
    """What all three routes are told."""
    return Wanted(
        prompt=fields.prompt,
        n=fields.n or 1,
        size=fields.size,
        seed=None if fields.seed == RANDOM_SEED else fields.seed,
        steps=fields.steps,
        guidance=fields.guidance,
        negative_prompt=fields.negative_prompt,
        previews=fields.partial_images or 0,
    )
