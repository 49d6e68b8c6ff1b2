"""Running what knows nothing of slices, such as a pipeline of diffusers, in slices.

It runs in a greenlet, which is left between two layers once the slice has lasted long enough.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch
from greenlet import getcurrent
from torch import nn

from mlxsrv.backends.greenlet_run import GreenletRun, Switch
from mlxsrv.core.image import DrawingStep


class _Run(GreenletRun):
    """Of slices of about so many `seconds`."""

    def __init__(self, work: Callable[[], DrawingStep], device: torch.device, seconds: float):
        super().__init__(work)
        self._waits = device.type == "cuda"
        self._seconds = seconds
        self._until = 0.0

    def _entered(self, switch: Switch) -> DrawingStep | None:
        self._until = time.perf_counter() + self._seconds
        # A mode belongs to the thread, and what else runs on it has its own: so it is not the
        # pipeline, which would take its mode along, that sets it.
        with torch.inference_mode():
            return super()._entered(switch)

    def pause(self) -> None:
        if self._waits:
            torch.cuda.current_stream().synchronize()
        if time.perf_counter() >= self._until:
            self.leave()


def in_slices(
    work: Callable[[], DrawingStep],
    before: Callable[[], None],
    *,
    device: torch.device,
    seconds: float,
) -> Iterator[DrawingStep | None]:
    """Runs `work` in slices of about `seconds`: what it tells, None between, at last its result.

    `before` is called before each slice. Closing the iterator stops the work where it stands.
    """
    return _Run(work, device, seconds).slices(before)


def tell(step: DrawingStep) -> None:
    """Leaves the work that calls it, with news."""
    run = getcurrent()
    assert isinstance(run, _Run)
    run.leave(step)


def pause(*_: object) -> None:
    """Leaves the work that calls it where the slice has lasted long enough; else does nothing."""
    run = getcurrent()
    if isinstance(run, _Run):
        run.pause()


def make_pausable(model: nn.Module) -> None:
    """From now on work pauses before every layer of this model, if there is any to do in it."""
    for module in model.modules():
        if isinstance(module, nn.ModuleList):
            for layer in module:
                if next(layer.parameters(), None) is not None:
                    layer.register_forward_pre_hook(pause)
