from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxsrv.backends.select import Machine, choose, decide
from mlxsrv.core.errors import ConfigError

BARE = Machine(metal=False, cuda=False, mlx=True, mlx_cuda=False, torch=True, torch_cuda=False)
MACHINES = st.builds(Machine, *[st.booleans()] * 6)


@pytest.mark.parametrize(
    ("machine", "name", "accelerator"),
    [
        (replace(BARE, metal=True), "mlx", "metal"),
        (replace(BARE, cuda=True, mlx_cuda=True, torch_cuda=True), "mlx", "cuda"),
        (replace(BARE, cuda=True, torch_cuda=True), "torch", "cuda"),
        (replace(BARE, cuda=True), "torch", "cpu"),
        (BARE, "torch", "cpu"),
        (replace(BARE, torch=False), "mlx", "cpu"),
        (replace(BARE, metal=True, mlx=False), "torch", "cpu"),
    ],
)
def test_automatic_choice(machine: Machine, name: str, accelerator: str) -> None:
    choice = decide("auto", machine)
    assert (choice.name, choice.accelerator) == (name, accelerator)


@pytest.mark.parametrize("name", ["mlx", "torch"])
def test_a_backend_that_is_not_installed_says_how_to_install_it(name: str) -> None:
    machine = replace(BARE, mlx=False, torch=False)
    with pytest.raises(ConfigError, match=rf"the {name} backend is not installed: pip install"):
        decide(name, machine)
    with pytest.raises(ConfigError, match="no backend is installed: pip install"):
        decide("auto", machine)


@given(MACHINES, st.sampled_from(["auto", "mlx", "torch"]))
def test_the_choice_is_installed_and_its_hardware_is_there(machine: Machine, asked: str) -> None:
    try:
        choice = decide(asked, machine)
    except ConfigError:
        assert not (machine.mlx if asked == "mlx" else machine.torch)
        return
    assert getattr(machine, choice.name)
    assert asked in {"auto", choice.name}
    assert choice.accelerator == "cpu" or getattr(machine, choice.accelerator)


def test_this_machine() -> None:
    assert choose("mlx").name == "mlx"
    assert choose("auto").reason
