from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlxsrv.backends.pacing import LARGEST, SMALLEST, PrefillPacer


@given(st.floats(1e-6, 1e-2), st.integers(1, 8))
def test_a_chunk_takes_about_one_slice_while_others_decode(speed: float, rows: int) -> None:
    pacer = PrefillPacer(0.05)
    for _ in range(30):
        pacer.observe(100, 100 * speed)
    chunk = pacer.chunk(rows=rows, decoding=True)
    assert SMALLEST <= chunk <= LARGEST
    assert chunk == SMALLEST or chunk * rows * speed <= 0.05 * 1.01


def test_with_nobody_waiting_chunks_are_longer() -> None:
    pacer = PrefillPacer(0.05)
    pacer.observe(1000, 0.5)
    assert pacer.chunk(rows=1, decoding=False) > pacer.chunk(rows=1, decoding=True)


def test_a_fixed_chunk_stays_what_it_is() -> None:
    pacer = PrefillPacer(0.05, fixed=7)
    pacer.observe(1000, 10.0)
    assert pacer.chunk(rows=3, decoding=True) == 7
