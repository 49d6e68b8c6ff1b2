"""How the MLX backend groups sequences of different lengths."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlx_lm.utils import load_model

from mlxsrv.backends.mlx.text import MlxTextBackend
from mlxsrv.backends.pacing import PrefillPacer
from mlxsrv.core.text import Sampling, Sequence
from tests.tiny_models import build

LONG = Sequence(1, tuple(5 + n % 200 for n in range(300)), 30, Sampling(temperature=0.0))
SHORT = [Sequence(2 + n, tuple(range(9, 15 + n)), 30, Sampling(seed=n)) for n in range(3)]


def texts(backend: MlxTextBackend, sequences: list[Sequence]) -> dict[int, list[int]]:
    made: dict[int, list[int]] = {sequence.uid: [] for sequence in sequences}
    for sequence in sequences:
        backend.insert(sequence)
    while any(len(tokens) < 30 for tokens in made.values()):
        for out in backend.step():
            made[out.uid].append(out.token)
    return made


@pytest.mark.parametrize(("padding_allowed", "groups"), [(0, 2), (1_000_000_000, 1)])
def test_a_long_sequence_decodes_apart_where_padding_would_cost_too_much(
    tmp_path: Path, padding_allowed: int, groups: int
) -> None:
    model, _ = load_model(build(tmp_path / "tiny"))
    pacer = PrefillPacer(0.05, fixed=512)
    backend = MlxTextBackend(model, 320, pacer=pacer, padding_allowed=padding_allowed)
    alone = {uid: made for s in (LONG, *SHORT) for uid, made in texts(backend, [s]).items()}
    for sequence in SHORT:
        backend.insert(sequence)
    for _ in range(3):
        backend.step()
    backend.insert(LONG)
    for _ in range(2):
        backend.step()
    assert len(backend._groups) == groups
    backend.reset()
    assert texts(backend, [*SHORT, LONG]) == alone
