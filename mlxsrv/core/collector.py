"""Python's garbage collector, kept away from imports."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """For imports: they make objects by the hundred thousand, and hardly one is garbage.

    The collector would walk through all of them time and again, a seventh of a start. So it
    rests meanwhile, and what there is at the end it never looks at again, which spares running
    streams its long pauses.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
