"""What the routes for pictures share: a request that is drawn, and what becomes of it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

from starlette.requests import Request

from mlxsrv.api.access import note
from mlxsrv.api.imagewanted import Wanted, check_bounds, fitted, usage
from mlxsrv.api.limits import admit, charge
from mlxsrv.api.schemas.images import RANDOM_SEED, ImageUsage
from mlxsrv.api.services import services_of
from mlxsrv.core.image import ImageRequest, ImageUpdate, Pixels
from mlxsrv.core.kinds import Kind
from mlxsrv.engines.image_stream import ImageStream
from mlxsrv.engines.model import ImageModel
from mlxsrv.media.image_encode import BEST, ImageFormat, encode_picture
from mlxsrv.media.image_fit import cover, restored
from mlxsrv.media.image_notes import Notes


@dataclass(frozen=True, slots=True)
class Encoding:
    """What kind of files pictures become; `quality` as `encode_picture` has it."""

    format: ImageFormat = "png"
    quality: int = BEST


@dataclass(frozen=True, slots=True)
class Made:
    """A finished picture as a file. `seed` is its own."""

    index: int
    seed: int
    content: bytes


@dataclass(slots=True)
class Drawn:
    """A request that was admitted, of which `pictures` are finished. Whether it begins with a
    picture, and whether its own `tell` how they were made."""

    request: ImageRequest
    model: str
    stream: ImageStream
    encoding: Encoding
    begins: bool
    tell: bool
    pictures: int = 0

    @property
    def usage(self) -> ImageUsage:
        return usage(self.request, self.pictures)

    @property
    def size(self) -> str:
        return f"{self.request.width}x{self.request.height}"

    async def file(self, pixels: Pixels, seed: int) -> bytes:
        """A finished picture in the form that was asked for; what a mask keeps is put back."""
        return await asyncio.to_thread(
            lambda: self._encoded(self._restored(pixels), self._notes(seed))
        )

    async def preview(self, pixels: Pixels) -> bytes:
        """The same of a preview, in the size of the picture."""
        size = self.request.width, self.request.height
        return await asyncio.to_thread(lambda: self._encoded(cover(pixels, size), None))

    def _restored(self, pixels: Pixels) -> Pixels:
        mask = self.request.mask
        return pixels if mask is None else restored(pixels, self.request.images[0], mask)

    def _encoded(self, pixels: Pixels, notes: Notes | None) -> bytes:
        encoding = self.encoding
        return encode_picture(pixels, encoding.format, quality=encoding.quality, notes=notes)

    def _notes(self, seed: int) -> Notes | None:
        if not self.tell:
            return None
        asked = self.request
        return Notes(
            prompt=asked.prompt,
            model=self.model,
            seed=seed,
            steps=asked.steps,
            width=asked.width,
            height=asked.height,
            guidance=asked.guidance,
            negative_prompt=asked.negative_prompt,
            strength=asked.strength if self.begins else None,
        )


async def start(
    request: Request,
    name: str | None,
    wanted: Wanted,
    encoding: Encoding,
    held: AsyncExitStack,
    *,
    first_only: bool,
) -> Drawn:
    """Queues a request; `held` cancels it when it ends, and settles the accounts.

    With `first_only` no more than the first of its pictures is drawn.
    Raises InvalidRequest, NotFound, LoadError, RateLimited, Overloaded, DeviceDead.
    """
    services = services_of(request)
    api = services.settings.api
    check_bounds(wanted, api)
    if first_only:
        wanted = replace(wanted, n=1)
    served = await services.registry.resolve(name, {Kind.IMAGE}, prefer=Kind.IMAGE)
    note(request, model=served)
    model = await held.enter_async_context(services.registry.lease(served, ImageModel))
    asked = await asyncio.to_thread(fitted, wanted, model, api)
    admit(request)
    stream = model.engine.submit(asked)
    begins = bool(asked.images) and not model.image.references
    drawn = Drawn(asked, model.name, stream, encoding, begins, api.image_metadata)
    held.callback(_settle, request, drawn)
    held.callback(stream.cancel)
    return drawn


def _settle(request: Request, drawn: Drawn) -> None:
    used = drawn.usage
    note(request, prompt_tokens=used["input_tokens"], completion_tokens=used["output_tokens"])
    charge(request, used["output_tokens"])


async def finished(drawn: Drawn) -> list[Made]:
    """All pictures, in order. Raises GenerationFailed, DeviceDead, ShuttingDown."""
    return [
        await made(drawn, update, update.picture)
        async for updates in drawn.stream
        for update in updates
        if update.picture is not None
    ]


async def made(drawn: Drawn, update: ImageUpdate, picture: Pixels) -> Made:
    """The file of a finished picture."""
    drawn.pictures += 1
    seed = _told(update.seed)
    return Made(update.index, seed, await drawn.file(picture, seed))


def _told(seed: int) -> int:
    """As a seed that may be sent, and draws the same; seeds are the same modulo 2**64."""
    return seed % 2**64 if seed == RANDOM_SEED or seed >= 2**64 else seed
