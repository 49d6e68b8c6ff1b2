"""Faster or slower sound at the same pitch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mlxsrv.media.pcm import cleaned

if TYPE_CHECKING:
    from av.filter import Graph

_SLOWEST = 0.5
"""Of one `atempo` filter."""


def paced(
    blocks: Iterable[NDArray[np.float32]], tempo: float, rate: int
) -> Iterator[NDArray[np.float32]]:
    """The same sound `tempo` times as fast (0.1 to 100): what is ready of it after each block.

    That may be nothing, as the filter looks ahead by some 100 ms. A last block has the rest.
    """
    if tempo == 1:
        yield from blocks
        return
    graph = _graph(tempo, rate)
    position = 0
    for block in blocks:
        if block.size:
            _push(graph, block, position, rate)
            position += block.size
        yield _ready(graph)
    graph.push(None)
    yield _ready(graph)


def _graph(tempo: float, rate: int) -> Graph:
    from av.filter import Graph

    graph = Graph()
    last = graph.add_abuffer(
        format="flt", sample_rate=rate, layout="mono", time_base=Fraction(1, rate)
    )
    for factor in _factors(tempo):
        node = graph.add("atempo", str(factor))
        last.link_to(node)
        last = node
    last.link_to(graph.add("abuffersink"))
    graph.configure()
    return graph


def _factors(tempo: float) -> Iterator[float]:
    while tempo < _SLOWEST:
        yield _SLOWEST
        tempo /= _SLOWEST
    yield tempo


def _push(graph: Graph, block: NDArray[np.float32], position: int, rate: int) -> None:
    from av import AudioFrame

    frame = AudioFrame.from_ndarray(np.ascontiguousarray(block[None]), format="flt", layout="mono")
    frame.sample_rate = rate
    frame.time_base = Fraction(1, rate)
    frame.pts = position
    graph.push(frame)


def _ready(graph: Graph) -> NDArray[np.float32]:
    from av import AudioFrame
    from av.error import BlockingIOError, EOFError

    found: list[NDArray[np.float32]] = []
    while True:
        try:
            frame = graph.pull()
        except (BlockingIOError, EOFError):
            return cleaned(np.concatenate(found)) if found else np.zeros(0, np.float32)
        assert isinstance(frame, AudioFrame)
        found.append(frame.to_ndarray()[0])
