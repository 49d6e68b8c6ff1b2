"""`POST /api/v1/image`: pictures as Cake's first route makes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from mlxsrv.api.body import StrictRoute
from mlxsrv.api.disconnect import until_disconnect
from mlxsrv.api.documented import pictures
from mlxsrv.api.imageanswers import file_answer, text
from mlxsrv.api.imageforms import read_text
from mlxsrv.api.imagejobs import Encoding, finished, start
from mlxsrv.api.imagewanted import Wanted
from mlxsrv.api.schemas.images import RANDOM_SEED, CakeImageBody, CakeImages, ImageArgs
from mlxsrv.api.services import services_of
from mlxsrv.api.text import json_answer
from mlxsrv.core.errors import InvalidRequest

NAMES = {
    "prompt": "prompt",
    "negative_prompt": "sd-uncond-prompt",
    "n": "sd-num-samples",
    "size": "sd-width",
    "steps": "n-steps",
    "guidance": "guidance-scale",
    "image": "sd-img2img",
    "strength": "sd-img2img-strength",
}
"""What OpenAI's routes call a field, and what this one does."""

router = APIRouter(route_class=StrictRoute, tags=["images"])


@router.post(
    "/api/v1/image",
    operation_id="image",
    response_class=Response,
    responses=pictures(CakeImages, streams=False, plain_errors=True),
)
async def image(request: Request, body: CakeImageBody) -> Response:
    """Pictures of what a text says, with Cake's arguments."""
    raw = body.response_format == "png"
    async with AsyncExitStack() as held:
        with _cakes_names():
            asked = await _wanted(request, body.image_args)
            starting = start(request, body.model, asked, Encoding(), held, first_only=raw)
            drawn = await until_disconnect(request, starting)
            made = await until_disconnect(request, finished(drawn))
        if raw:
            return file_answer(drawn, made[0])
        return json_answer({"images": [text(picture.content) for picture in made]})


async def _wanted(request: Request, args: ImageArgs) -> Wanted:
    given = args.sd_img2img
    services = services_of(request)
    return Wanted(
        prompt=args.prompt,
        n=args.n,
        size=args.size,
        seed=None if args.image_seed == RANDOM_SEED else args.image_seed,
        steps=args.n_steps,
        guidance=args.guidance_scale,
        negative_prompt=args.sd_uncond_prompt,
        strength=args.sd_img2img_strength,
        pictures=(await read_text(given, "image", services),) if given is not None else (),
    )


@contextmanager
def _cakes_names() -> Iterator[None]:
    """Makes refusals name the fields as they are called here."""
    try:
        yield
    except InvalidRequest as error:
        name = NAMES.get(error.param or "")
        if name is None:
            raise
        message = error.message.replace(f"{error.param}: ", f"image_args.{name}: ", 1)
        raise type(error)(message, param=f"image_args.{name}") from error
