"""The answers of OpenAI's routes for pictures: JSON, a file, or events."""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson
from starlette.requests import Request
from starlette.responses import Response

from mlxsrv.api.accept import prefers_json
from mlxsrv.api.chunks import DONE
from mlxsrv.api.disconnect import until_disconnect
from mlxsrv.api.imagejobs import Drawn, Encoding, Made, finished, made, start
from mlxsrv.api.imagewanted import Wanted
from mlxsrv.api.schemas.images import ImageObject, Images, PictureFields
from mlxsrv.api.services import services_of
from mlxsrv.api.sse import open_stream
from mlxsrv.api.text import HeldEvents, json_answer
from mlxsrv.config.settings import ApiSettings
from mlxsrv.core.errors import InvalidRequest
from mlxsrv.core.image import ImageUpdate
from mlxsrv.media.image_encode import MEDIA_TYPES

EventName = Literal["image_generation", "image_edit"]


async def answer(
    request: Request, fields: PictureFields, wanted: Wanted, name: EventName
) -> Response:
    """Draws what is wanted. Raises what `imagejobs.start` and `finished` do."""
    raw = wants_file(request, fields)
    encoding = Encoding(fields.format, fields.compression)
    async with AsyncExitStack() as held:
        starting = start(request, fields.model, wanted, encoding, held, first_only=raw)
        drawn = await until_disconnect(request, starting)
        if fields.stream:
            events = _Events(drawn, name, tells_steps=bool(fields.progress)).all()
            return await open_stream(request, HeldEvents(events, held.pop_all()))
        pictures = await until_disconnect(request, finished(drawn))
        return file_answer(drawn, pictures[0]) if raw else _json(drawn, pictures)


def wants_file(request: Request, fields: PictureFields) -> bool:
    """Whether the answer is the first picture itself. Raises InvalidRequest for links."""
    match fields.response_format:
        case "url":
            raise _no_links(services_of(request).settings.api)
        case "png":
            return True
        case "b64_json":
            return False
    return not fields.stream and not prefers_json(request.headers.getlist("accept"))


def _no_links(api: ApiSettings) -> InvalidRequest:
    reason = (
        "this server keeps no files to link to (--files-dir)"
        if api.files_dir is None
        else "links to pictures are not served yet"
    )
    return InvalidRequest(
        f"response_format: {reason}: ask for b64_json or png", param="response_format"
    )


def file_answer(drawn: Drawn, picture: Made) -> Response:
    """The picture itself; a header tells the seed."""
    media_type = MEDIA_TYPES[drawn.encoding.format]
    return Response(picture.content, media_type=media_type, headers={"X-Seed": str(picture.seed)})


def _json(drawn: Drawn, pictures: list[Made]) -> Response:
    data: list[ImageObject] = [
        {"b64_json": text(picture.content), "seed": picture.seed} for picture in pictures
    ]
    found: Images = {
        "created": int(time.time()),
        "data": data,
        "background": "opaque",
        "output_format": drawn.encoding.format,
        "size": drawn.size,
        "usage": drawn.usage,
    }
    return json_answer(found)


def text(content: bytes) -> str:
    return base64.b64encode(content).decode()


@dataclass(slots=True)
class _Events:
    """The events of one answer; `previews` is how many have been sent of each picture, and
    `told` the picture and the step that were told last."""

    drawn: Drawn
    name: EventName
    tells_steps: bool
    previews: dict[int, int] = field(default_factory=dict)
    told: tuple[int, int] | None = None

    async def all(self) -> AsyncGenerator[bytes, None]:
        """Each picture's steps, previews and end, as they come."""
        async for updates in self.drawn.stream:
            for update in updates:
                if self.tells_steps and self.told != (update.index, update.done):
                    yield self._progress(update)
                if update.preview is not None:
                    yield await self._partial(update)
                if update.picture is not None:
                    yield self._completed(await made(self.drawn, update, update.picture))
        yield DONE

    def _progress(self, update: ImageUpdate) -> bytes:
        self.told = update.index, update.done
        return self._event("progress", index=update.index, step=update.done, steps=update.steps)

    async def _partial(self, update: ImageUpdate) -> bytes:
        assert update.preview is not None
        place = self.previews.get(update.index, 0)
        self.previews[update.index] = place + 1
        content = await self.drawn.preview(update.preview)
        return self._event(
            "partial_image",
            index=update.index,
            partial_image_index=place,
            b64_json=text(content),
            **self._facts(),
        )

    def _completed(self, picture: Made) -> bytes:
        return self._event(
            "completed",
            index=picture.index,
            b64_json=text(picture.content),
            seed=picture.seed,
            usage=self.drawn.usage,
            **self._facts(),
        )

    def _facts(self) -> dict[str, Any]:
        return {
            "created_at": int(time.time()),
            "size": self.drawn.size,
            "quality": "auto",
            "background": "opaque",
            "output_format": self.drawn.encoding.format,
        }

    def _event(self, kind: str, **fields: Any) -> bytes:
        return b"data: " + orjson.dumps({"type": f"{self.name}.{kind}", **fields}) + b"\n\n"
