"""What waits for a reader who takes his time."""

from __future__ import annotations

import asyncio

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mlxsrv.core.image import ImageUpdate
from mlxsrv.engines.image_stream import MOST_PREVIEWS, ImageStream, join

PIXELS = np.zeros((1, 1, 3), np.uint8)
WHAT = st.sampled_from(["progress", "preview", "picture"])


def updates(kinds: list[str]) -> list[ImageUpdate]:
    return [
        ImageUpdate(
            index=0,
            seed=0,
            done=place,
            steps=len(kinds),
            preview=PIXELS if kind == "preview" else None,
            picture=PIXELS if kind == "picture" else None,
        )
        for place, kind in enumerate(kinds)
    ]


@given(st.lists(WHAT, max_size=40))
def test_pictures_stay_and_the_rest_is_bounded(kinds: list[str]) -> None:
    waiting: list[ImageUpdate] = []
    given = updates(kinds)
    for update in given:
        join(waiting, update)
    places = [update.done for update in waiting]
    assert places == sorted(places)
    pictures = [update.done for update in given if update.picture is not None]
    assert [update.done for update in waiting if update.picture is not None] == pictures
    previews = [update.done for update in given if update.preview is not None]
    kept = [update.done for update in waiting if update.preview is not None]
    assert kept == previews[-MOST_PREVIEWS:]
    progress = [u for u in waiting if u.preview is None and u.picture is None]
    assert len(progress) <= 1
    assert not given or waiting[-1] is given[-1]


def test_a_reader_in_time_gets_all_of_it() -> None:
    async def main() -> None:
        stream = ImageStream(lambda stream: None)
        seen = []
        given = updates(["progress"] * 3 + ["preview", "picture"])

        async def read() -> None:
            async for some in stream:
                seen.extend(some)

        reader = asyncio.create_task(read())
        for update in given:
            await asyncio.sleep(0)
            stream.mailbox.put(update)
            await asyncio.sleep(0)
        stream.end()
        await reader
        assert [one.done for one in seen] == [0, 1, 2, 3, 4]

    asyncio.run(main())
