"""Pictures: how fast, against the libraries alone, side by side, and beside a chat that streams."""

from __future__ import annotations

import asyncio
import io
import time
from contextlib import suppress

from mlxsrv.bench.keepalive import connect, post
from mlxsrv.bench.metrics import ERRORS, MILLI, Metric, Sample
from mlxsrv.bench.pictures import Pictures
from mlxsrv.bench.scenarios.base import Round, Scenario
from mlxsrv.bench.scenarios.interference import SLICE_SECONDS
from mlxsrv.bench.scenarios.listening import ALLOWED, ALONE, after, gaps
from mlxsrv.bench.stats import percentile
from mlxsrv.bench.subjects import Subject

PATH = "/v1/images/generations"
MODEL = "demo-image"
PROMPT = "a red circle on a blue background"
SIDE, STEPS = 256, 20


async def alone(library: Pictures, turn: Round) -> Sample:
    return _figures(*await library.draw(PROMPT, SIDE, STEPS, turn.seed))


async def measure(subject: Subject, turn: Round) -> Sample:
    seconds, brightness = await _draw(subject, turn.seed)
    began = time.perf_counter()
    both = await asyncio.gather(*(_draw(subject, turn.seed) for _ in range(2)))
    together = time.perf_counter() - began
    return (
        {Metric("", ERRORS): 0.0}
        | _figures(seconds, brightness)
        | {
            Metric("two at once", "both, in times of one"): together / seconds,
            Metric("two at once", "first done / last done"): min(both)[0] / max(both)[0],
        }
    )


def _figures(seconds: float, brightness: float) -> Sample:
    """The brightness shows who draws the same."""
    return {
        Metric("", "pace", "steps/s", "more"): STEPS / seconds,
        Metric("", "brightness of the picture", better="neither"): brightness,
    }


async def _draw(subject: Subject, seed: int) -> tuple[float, float]:
    """The seconds a picture takes, and how bright it is. Raises OSError, Refused."""
    import numpy as np
    from PIL import Image

    body = {
        "model": subject.endpoint.model,
        "prompt": PROMPT,
        "size": f"{SIDE}x{SIDE}",
        "steps": STEPS,
        "seed": seed,
        "response_format": "png",
    }
    began = time.perf_counter()
    async with connect(subject.endpoint) as connection:
        answer = await connection.post(PATH, body)
    seconds = time.perf_counter() - began
    return seconds, float(np.asarray(Image.open(io.BytesIO(answer))).mean())


async def measure_beside(subject: Subject, turn: Round) -> Sample:
    await post(subject.endpoint, "/v1/models/load", {"model": MODEL})
    usual = percentile(await gaps(subject, turn, after(ALONE)), 0.95)
    drawing = asyncio.create_task(_go_on(subject))
    beside = await gaps(subject, turn, after(ALONE))
    drawing.cancel()
    with suppress(asyncio.CancelledError):
        await drawing
    disturbed = percentile(beside, 0.95)
    return {
        Metric("", ERRORS): 0.0,
        Metric("alone", "gap, p95", "ms"): MILLI * usual,
        Metric("beside", "gap, p95", "ms"): MILLI * disturbed,
        Metric("beside", "gap, longest", "ms"): MILLI * max(beside),
        Metric("beside", "gap, p95 / (2.5 alone + 50 ms)"): disturbed
        / (ALLOWED * usual + SLICE_SECONDS),
    }


async def _go_on(subject: Subject) -> None:
    """Has pictures made one after the other."""
    body = {
        "model": MODEL,
        "prompt": PROMPT,
        "size": f"{SIDE}x{SIDE}",
        "steps": STEPS,
        "response_format": "png",
    }
    async with connect(subject.endpoint) as connection:
        while True:
            await connection.post(PATH, body)


SPEED = Scenario(
    "images",
    f"pictures of {SIDE}x{SIDE} in {STEPS} steps, against the libraries alone, and two at once",
    (MODEL,),
    running=measure,
    pictures=alone,
    ours_only=True,
)
BESIDE = Scenario(
    "image-interference",
    "a chat streams while pictures are made",
    ("demo",),
    running=measure_beside,
    ours_only=True,
)
