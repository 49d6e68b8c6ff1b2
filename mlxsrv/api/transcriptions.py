"""`POST /v1/audio/transcriptions`, `/v1/audio/translations`, and whisper.cpp's `/inference`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import orjson
from fastapi import APIRouter
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from mlxsrv.api.access import note
from mlxsrv.api.chunks import DONE
from mlxsrv.api.disconnect import until_disconnect
from mlxsrv.api.documented import form_body, responses
from mlxsrv.api.form import Upload, read_form
from mlxsrv.api.limits import admit, charge
from mlxsrv.api.schemas.transcriptions import (
    LISTS,
    TIMED,
    InferenceFields,
    Transcription,
    TranscriptionFields,
)
from mlxsrv.api.services import services_of
from mlxsrv.api.sse import open_stream
from mlxsrv.api.text import HeldEvents, json_answer
from mlxsrv.api.transcripts import Transcript, segment_object, word_objects
from mlxsrv.api.validation import invalid_request
from mlxsrv.core.errors import InvalidRequest
from mlxsrv.core.kinds import Kind
from mlxsrv.core.transcription import Segment, TranscriptionRequest
from mlxsrv.engines.model import TranscriptionModel
from mlxsrv.engines.transcription_stream import TranscriptionStream
from mlxsrv.media.audio_decode import decode, open_audio

RATE = 16_000
"""Of the sound that Whisper hears, in Hz."""

MANY_LANGUAGES = 10

F = TypeVar("F", bound=TranscriptionFields)

router = APIRouter(tags=["audio"])


@dataclass(frozen=True, slots=True)
class _Running:
    """A request that was admitted, and what has come of it so far."""

    fields: TranscriptionFields
    task: Literal["transcribe", "translate"]
    stream: TranscriptionStream
    transcript: Transcript


@router.post(
    "/v1/audio/transcriptions",
    operation_id="transcriptions",
    responses=responses(Transcription, streams=True),
    openapi_extra=form_body(TranscriptionFields, "file"),
)
async def transcriptions(request: Request) -> Response:
    """What is said in a recording, in the language it is said in."""
    async with AsyncExitStack() as held:
        fields, upload = await _read(request, TranscriptionFields, held)
        return await _answer(request, fields, upload, held)


@router.post(
    "/v1/audio/translations",
    operation_id="translations",
    responses=responses(Transcription, streams=True),
    openapi_extra=form_body(TranscriptionFields, "file"),
)
async def translations(request: Request) -> Response:
    """What is said in a recording, in English."""
    async with AsyncExitStack() as held:
        fields, upload = await _read(request, TranscriptionFields, held)
        return await _answer(request, fields, upload, held, translate=True)


@router.post(
    "/inference",
    operation_id="inference",
    responses=responses(Transcription, streams=True, plain_errors=True),
    openapi_extra=form_body(InferenceFields, "file"),
)
async def inference(request: Request) -> Response:
    """The same as whisper.cpp's server offers it."""
    async with AsyncExitStack() as held:
        fields, upload = await _read(request, InferenceFields, held)
        return await _answer(request, fields, upload, held, translate=fields.translate)


async def _read(request: Request, kind: type[F], held: AsyncExitStack) -> tuple[F, Upload]:
    """The fields and the file, which is known to be sound. Raises InvalidRequest."""
    form = await read_form(request, held)
    given = form.fields(LISTS)
    try:
        fields = kind.model_validate(given)
    except ValidationError as error:
        raise invalid_request(
            [{**e, "loc": ("body", *e["loc"])} for e in error.errors()], given
        ) from None
    upload = form.upload("file")
    await asyncio.to_thread(lambda: open_audio(upload.open()).close())
    return fields, upload


async def _answer(
    request: Request,
    fields: TranscriptionFields,
    upload: Upload,
    held: AsyncExitStack,
    *,
    translate: bool = False,
) -> Response:
    starting = _start(request, fields, upload, held, translate=translate)
    running = await until_disconnect(request, starting)
    if fields.stream:
        events = HeldEvents(_events(running), held.pop_all())
        return await open_stream(request, events)
    return await until_disconnect(request, _whole(running))


async def _start(
    request: Request,
    fields: TranscriptionFields,
    upload: Upload,
    held: AsyncExitStack,
    *,
    translate: bool,
) -> _Running:
    """Queues the request; `held` cancels it when it ends, and settles the accounts.

    Raises NotFound, LoadError, InvalidRequest, RateLimited, Overloaded, DeviceDead.
    """
    registry = services_of(request).registry
    served = await registry.resolve(fields.model, {Kind.STT}, prefer=Kind.STT)
    note(request, model=served)
    model = await held.enter_async_context(registry.lease(served, TranscriptionModel))
    _check_language(model, fields.language, translate=translate)
    admit(request)
    transcript = Transcript()
    held.callback(_settle, request, transcript)
    wanted = TranscriptionRequest(
        language=fields.language,
        translate=translate,
        prompt=fields.prompt,
        temperatures=fields.temperatures,
        words=fields.words,
        condition=fields.condition,
    )
    stream = model.engine.submit(wanted, lambda: decode(upload.open(), rate=RATE))
    held.callback(stream.cancel)
    return _Running(fields, "translate" if translate else "transcribe", stream, transcript)


def _settle(request: Request, transcript: Transcript) -> None:
    note(request, completion_tokens=transcript.generated)
    charge(request, transcript.generated)


def _check_language(model: TranscriptionModel, language: str | None, *, translate: bool) -> None:
    """Raises InvalidRequest for what the model does not know."""
    vocabulary = model.whisper.vocabulary
    if not vocabulary.multilingual and translate:
        raise InvalidRequest(f"{model.name} knows English only: it can't translate", param="model")
    known = vocabulary.special.languages or {"en"}
    if language is not None and language not in known:
        names = ", ".join(known) if len(known) < MANY_LANGUAGES else f"{len(known)} others"
        raise InvalidRequest(
            f"language: {model.name} does not know {language!r}, but {names}", param="language"
        )


async def _whole(running: _Running) -> Response:
    fields, transcript = running.fields, running.transcript
    async for updates in running.stream:
        transcript.add(updates)
    match fields.response_format:
        case "json":
            return json_answer({"text": transcript.text, "usage": transcript.usage})
        case "verbose_json":
            return json_answer(
                transcript.verbose(running.task, segments=fields.segments, words=fields.words)
            )
        case "text":
            return PlainTextResponse(transcript.text + "\n")
        case subtitles:
            return PlainTextResponse(transcript.subtitles(subtitles, words=fields.words))


async def _events(running: _Running) -> AsyncGenerator[bytes, None]:
    """The text as it becomes final; with times, also the segments and how far it has come."""
    fields, transcript = running.fields, running.transcript
    sent = 0
    async for updates in running.stream:
        transcript.add(updates)
        out = []
        if fields.response_format in TIMED:
            out += [_segment(one) for update in updates for one in update.segments]
            out.append(_progress(transcript))
        text = transcript.text
        if len(text) > sent:
            out.append(_event("transcript.text.delta", delta=text[sent:]))
            sent = len(text)
        if out:
            yield b"".join(out)
    done: dict[str, Any] = {"text": transcript.text, "usage": transcript.usage}
    if fields.response_format in TIMED:
        done |= transcript.verbose(running.task, segments=False, words=False)
    yield _event("transcript.text.done", **done) + DONE


def _segment(segment: Segment) -> bytes:
    words = {"words": word_objects(segment.words)} if segment.words else {}
    return _event("transcript.text.segment", **segment_object(segment), **words)


def _progress(transcript: Transcript) -> bytes:
    return _event(
        "transcript.progress",
        seconds=round(transcript.seconds, 2),
        duration=round(transcript.duration, 2),
    )


def _event(kind: str, **fields: Any) -> bytes:
    return b"data: " + orjson.dumps({"type": kind, **fields}) + b"\n\n"
