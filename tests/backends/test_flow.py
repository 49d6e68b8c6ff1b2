"""The schedule of flow-matching models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from hypothesis import given
from hypothesis import strategies as st

from mlxsrv.backends.flow import FlowSchedule, first_step, read_schedule, times
from mlxsrv.core.errors import LoadError

steps_counts = st.integers(1, 200)
tokens_counts = st.integers(1, 20_000)
schedules = st.builds(
    FlowSchedule,
    shift=st.floats(0.1, 10),
    dynamic=st.booleans(),
    linear=st.booleans(),
    base_shift=st.floats(0.3, 1.0),
    max_shift=st.floats(1.0, 2.0),
)


@given(schedules, steps_counts, tokens_counts)
def test_sigmas_fall_from_one_to_nothing(schedule: FlowSchedule, steps: int, tokens: int) -> None:
    sigmas = schedule.sigmas(steps, tokens)
    assert sigmas.shape == (steps + 1,)
    assert sigmas.dtype == np.float32
    assert sigmas[0] == pytest.approx(1.0)
    assert sigmas[-1] == 0
    assert (np.diff(sigmas) < 0).all()
    assert (times(sigmas) == sigmas[:-1] * np.float32(1000)).all()


@given(schedules, st.integers(1, 60), st.integers(1, 9000))
def test_the_numbers_are_those_of_diffusers(
    schedule: FlowSchedule, steps: int, tokens: int
) -> None:
    config: dict[str, Any] = {
        "shift": schedule.shift,
        "use_dynamic_shifting": schedule.dynamic,
        "time_shift_type": "linear" if schedule.linear else "exponential",
        "base_shift": schedule.base_shift,
        "max_shift": schedule.max_shift,
    }
    theirs = FlowMatchEulerDiscreteScheduler(**config)
    mu = calculate_shift(tokens, 256, 4096, schedule.base_shift, schedule.max_shift)
    theirs.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=mu)
    assert read_schedule(config) == schedule
    np.testing.assert_allclose(schedule.sigmas(steps, tokens), theirs.sigmas.numpy(), rtol=1e-6)
    np.testing.assert_allclose(
        times(schedule.sigmas(steps, tokens)), theirs.timesteps.numpy(), rtol=1e-6
    )


@given(steps_counts, st.floats(0, 1))
def test_a_picture_is_drawn_again_from_some_step_on(steps: int, strength: float) -> None:
    first = first_step(steps, strength)
    assert 0 <= first <= steps
    assert first_step(steps, 0) == steps
    assert first_step(steps, 1) == 0
    # What diffusers leaves out, and never all of the picture unless it is asked for.
    assert first >= int(steps - steps * strength)
    assert first <= max(int(steps - steps * strength), 1)
    assert first > 0 or strength == 1 or steps == 1


@given(steps_counts, st.floats(0, 1), st.floats(0, 1))
def test_more_strength_never_does_fewer_steps(steps: int, one: float, other: float) -> None:
    weak, strong = sorted((one, other))
    assert first_step(steps, weak) >= first_step(steps, strong)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"_class_name": "DDIMScheduler"}, "DDIMScheduler"),
        ({"use_karras_sigmas": True}, "use_karras_sigmas"),
        ({"shift_terminal": 0.1}, "shift_terminal"),
        ({"shift": "much"}, "damaged"),
        ({"shift": None}, "damaged"),
        ({"shift": 0}, "nothing"),
        ({"base_image_seq_len": 4096}, "nothing"),
    ],
)
def test_other_schedules_are_refused(config: dict[str, Any], reason: str) -> None:
    with pytest.raises(LoadError, match=reason):
        read_schedule(config)
