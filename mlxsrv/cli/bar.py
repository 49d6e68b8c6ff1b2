"""A progress bar on the terminal, and silence where there is none."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mlxsrv.backends.hub import Progress, Report

Show = Callable[[str, int, int | None], None]
"""What is going on, and how many bytes of how many are done."""

ShowPart = Callable[[str, float, float], None]
"""The same in seconds or steps."""

SOON = 0.01
"""Seconds; tqdm draws an empty bar where there is no delay at all."""


@contextmanager
def bytes_bar(delay: float = SOON) -> Iterator[Show | None]:
    """Gives what to show bytes with; None where standard error is not a terminal.

    Nothing is shown in the first `delay` seconds.
    """
    if not sys.stderr.isatty():
        yield None
        return
    from tqdm import tqdm

    with tqdm(unit="B", unit_scale=True, unit_divisor=1000, delay=delay, leave=False) as bar:

        def show(what: str, done: int, total: int | None) -> None:
            if done < bar.n:
                bar.reset()
            bar.total = total
            bar.set_description_str(what, refresh=False)
            bar.update(done - bar.n)

        yield show


@contextmanager
def seconds_bar() -> Iterator[ShowPart | None]:
    """The same for seconds of sound."""
    with _bar("{n:.0f}/{total:.0f} s") as show:
        yield show


@contextmanager
def steps_bar() -> Iterator[ShowPart | None]:
    """The same for steps; with a new name they begin anew."""
    with _bar("{n:.0f}/{total:.0f}") as show:
        yield show


@contextmanager
def _bar(count: str) -> Iterator[ShowPart | None]:
    if not sys.stderr.isatty():
        yield None
        return
    from tqdm import tqdm

    form = "{desc}: {percentage:3.0f}%|{bar}| " + count + " [{elapsed}<{remaining}]"
    with tqdm(total=1, bar_format=form, leave=False) as bar:

        def show(what: str, done: float, total: float) -> None:
            if done < bar.n:
                bar.reset()
            bar.total = total
            bar.set_description_str(what, refresh=False)
            bar.update(done - bar.n)
            bar.refresh()

        yield show


@contextmanager
def download_bar() -> Iterator[Report | None]:
    """Gives what to report bytes to; None where standard error is not a terminal."""
    with bytes_bar(delay=0.2) as show:
        if show is None:
            yield None
            return

        def report(progress: Progress) -> None:
            show(progress.file, progress.done, progress.total)

        yield report
