from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxsrv.backends.fairness import FairShare


@given(st.lists(st.tuples(st.floats(0.5, 8), st.floats(0.001, 0.1)), min_size=2, max_size=5))
def test_time_is_shared_by_weight_whatever_a_slice_takes(jobs: list[tuple[float, float]]) -> None:
    share: FairShare[int] = FairShare()
    for job, (weight, _) in enumerate(jobs):
        share.add(job, weight)
    used = [0.0] * len(jobs)
    while sum(used) < 100:
        job = share.pick()
        used[job] += jobs[job][1]
        share.charge(job, jobs[job][1])
    total = sum(weight for weight, _ in jobs)
    longest = max(seconds for _, seconds in jobs)
    for seconds, (weight, _) in zip(used, jobs, strict=True):
        assert seconds == pytest.approx(sum(used) * weight / total, abs=20 * longest)


def test_a_newcomer_is_served_soon_and_starves_nobody() -> None:
    share: FairShare[str] = FairShare()
    share.add("old")
    share.charge("old", 1000.0)
    share.add("new")
    picks = []
    for _ in range(10):
        picks.append(share.pick())
        share.charge(picks[-1], 1.0)
    assert picks.count("old") == picks.count("new") == 5


def test_a_weight_must_be_positive() -> None:
    with pytest.raises(ValueError, match="positive"):
        FairShare[str]().add("job", 0.0)
