"""`POST /v1/audio/speech`."""

from __future__ import annotations

import asyncio
import base64
import math
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np
import orjson
from fastapi import APIRouter
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from mlxsrv.api.access import note
from mlxsrv.api.body import StrictRoute
from mlxsrv.api.chunks import DONE
from mlxsrv.api.cloning import at_rate, recording
from mlxsrv.api.disconnect import until_disconnect
from mlxsrv.api.documented import sound
from mlxsrv.api.limits import admit, charge
from mlxsrv.api.schemas.speech import SpeechBody, SpeechUsage
from mlxsrv.api.services import services_of
from mlxsrv.api.sse import open_bytes, open_stream
from mlxsrv.api.text import HeldEvents
from mlxsrv.core.errors import InvalidRequest, Unsupported
from mlxsrv.core.kinds import Kind
from mlxsrv.core.speech import FRAMES_PER_SECOND, SpeechRequest
from mlxsrv.engines.model import SpeechModel
from mlxsrv.engines.speech_stream import SpeechStream
from mlxsrv.engines.voices import choose_voice
from mlxsrv.media.audio_encode import AudioFormat, Encoder, encoder_for

CLONED = "cloned"
CONFIGURED = "voice_prompt"
"""What the answer's `x-voice` says where no voice of the model's own speaks."""

router = APIRouter(route_class=StrictRoute, tags=["audio"])


@dataclass(frozen=True, slots=True)
class _Voice:
    """Whose voice speaks: one of the model's, or that of a recording; `shown` to the caller."""

    id: str
    shown: str
    recording: NDArray[np.float32] | None = None


@dataclass(slots=True)
class _Running:
    """A request that was admitted, for a text of so many `characters`; `samples` have been read
    of its sound. Not the body, which may hold a large recording."""

    characters: int
    stream: SpeechStream
    encoder: Encoder
    voice: str
    rate: int
    samples: int = 0

    @property
    def frames(self) -> int:
        return math.ceil(self.samples / self.rate * FRAMES_PER_SECOND)

    @property
    def usage(self) -> SpeechUsage:
        read, made = self.characters, self.frames
        return {"input_tokens": read, "output_tokens": made, "total_tokens": read + made}


@router.post("/v1/audio/speech", operation_id="speech", response_class=Response, responses=sound())
async def speech(request: Request, body: SpeechBody) -> Response:
    """Text as sound, sent while it is made."""
    async with AsyncExitStack() as held:
        running = await until_disconnect(request, _start(request, body, held))
        headers = {"X-Voice": quote(running.voice, safe=" +()")}
        if body.streams_events:
            events = HeldEvents(_events(running), held.pop_all())
            return await open_stream(request, events, headers=headers)
        headers["Content-Type"] = running.encoder.media_type
        return await open_bytes(request, HeldEvents(_chunks(running), held.pop_all()), headers)


async def _start(request: Request, body: SpeechBody, held: AsyncExitStack) -> _Running:
    """Queues the request; `held` cancels it when it ends, and settles the accounts.

    Raises NotFound, LoadError, InvalidRequest, RateLimited, Overloaded, DeviceDead.
    """
    services = services_of(request)
    api = services.settings.api
    _check_length(body.input, api.max_speech_chars)
    cloned = await recording(body, api.voices_dir)
    served = await services.registry.resolve(body.model, {Kind.TTS}, prefer=Kind.TTS)
    note(request, model=served)
    model = await held.enter_async_context(services.registry.lease(served, SpeechModel))
    voice = _voice(model, body, cloned)
    rate = model.speech.sample_rate
    encoder = await asyncio.to_thread(encoder_for, _coding(request, body), rate)
    admit(request)
    stream = model.engine.submit(_wanted(body, voice))
    running = _Running(len(body.input), stream, encoder, voice.shown, rate)
    held.callback(_settle, request, running)
    held.callback(stream.cancel)
    return running


def _settle(request: Request, running: _Running) -> None:
    note(request, completion_tokens=running.frames)
    charge(request, running.frames)


def _check_length(text: str, most: int) -> None:
    if len(text) > most:
        raise InvalidRequest(
            f"input: has {len(text)} characters; this server speaks at most {most} at once",
            param="input",
        )


def _voice(model: SpeechModel, body: SpeechBody, cloned: NDArray[np.float32] | None) -> _Voice:
    """A recording beats the configured voice, which beats all but the model's own names.

    Raises Unsupported for a recording that the model can't use.
    """
    facts = model.speech
    if cloned is not None and not facts.clones:
        param = "voice_path" if body.voice_data is None else "voice_data"
        raise Unsupported(
            f"{param}: {model.name} can't speak with other voices than its own", param=param
        )
    if cloned is not None:
        return _Voice(facts.default_voice, CLONED, at_rate(cloned, facts.sample_rate))
    own = {voice.id for voice in facts.voices}
    if model.prompt is not None and body.voice not in own:
        return _Voice(facts.default_voice, CONFIGURED, model.prompt)
    id_ = choose_voice(body.voice, facts.voices, facts.default_voice)
    return _Voice(id_, id_)


def _wanted(body: SpeechBody, voice: _Voice) -> SpeechRequest:
    given = {
        name: getattr(body, name)
        for name in ("speed", "seed", "max_frames", "cfg_scale", "diffusion_steps")
        if getattr(body, name) is not None
    }
    return SpeechRequest(body.input, voice.id, reference=voice.recording, **given)


def _coding(request: Request, body: SpeechBody) -> AudioFormat:
    """OpenAI's SDKs take raw samples for 16-bit integers, and say by `Accept` who they are."""
    match body.response_format:
        case None:
            return "wav"
        case "pcm":
            integers = _accepts(request.headers.getlist("accept"), "application/octet-stream")
            return "pcm_s16le" if integers else "pcm_f32le"
        case name:
            return name


def _accepts(headers: list[str], media_type: str) -> bool:
    """Whether `Accept` names exactly this type."""
    ranges = (item.partition(";")[0].strip().lower() for one in headers for item in one.split(","))
    return media_type in ranges


async def _chunks(running: _Running) -> AsyncGenerator[bytes, None]:
    encoder = running.encoder
    async for samples in running.stream:
        running.samples += len(samples)
        chunk = await asyncio.to_thread(encoder.encode, samples)
        if chunk:
            yield chunk
    rest = await asyncio.to_thread(encoder.finish)
    if rest:
        yield rest


async def _events(running: _Running) -> AsyncGenerator[bytes, None]:
    async for chunk in _chunks(running):
        yield _event("speech.audio.delta", audio=base64.b64encode(chunk).decode())
    yield _event("speech.audio.done", usage=running.usage) + DONE


def _event(kind: str, **fields: Any) -> bytes:
    return b"data: " + orjson.dumps({"type": kind, **fields}) + b"\n\n"
