"""A progress bar on the terminal, and silence where there is none."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from mlxsrv.backends.hub import Progress, Report


@contextmanager
def download_bar() -> Iterator[Report | None]:
    """Gives what to report bytes to; None where standard error is not a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from tqdm import tqdm

    with tqdm(unit="B", unit_scale=True, unit_divisor=1000, delay=0.2, leave=False) as bar:

        def report(progress: Progress) -> None:
            bar.total = progress.total
            bar.set_description_str(progress.file, refresh=False)
            bar.update(progress.done - bar.n)

        yield report
