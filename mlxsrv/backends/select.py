"""Which backend serves on this machine, decided without importing one."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distributions, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from mlxsrv.core.errors import ConfigError

Backend = Literal["mlx", "torch"]
Accelerator = Literal["metal", "cuda", "cpu"]

INSTALL_MLX = "pip install mlx mlx-lm (on Linux: pip install 'mlx[cpu]' mlx-lm)"
INSTALL_TORCH = "pip install torch transformers"


@dataclass(frozen=True, slots=True)
class Machine:
    """What matters for the choice: the hardware, and what is installed."""

    metal: bool
    cuda: bool
    mlx: bool
    mlx_cuda: bool
    torch: bool
    torch_cuda: bool


@dataclass(frozen=True, slots=True)
class Choice:
    """`reason` is written for the user."""

    name: Backend
    reason: str
    accelerator: Accelerator


def choose(requested: str = "auto") -> Choice:
    """The backend for `requested` (auto, mlx or torch) here. Raises ConfigError."""
    return decide(requested, probe())


def decide(requested: str, machine: Machine) -> Choice:
    """`choose` for any machine: Metal → mlx; CUDA → mlx built for it, else torch; else torch.

    Raises ConfigError, which says how to install it, where the backend is not there.
    """
    if requested == "mlx":
        if not machine.mlx:
            raise ConfigError(f"the mlx backend is not installed: {INSTALL_MLX}")
        return Choice("mlx", "asked for", _mlx_runs_on(machine))
    if requested == "torch":
        if not machine.torch:
            raise ConfigError(f"the torch backend is not installed: {INSTALL_TORCH}")
        return Choice("torch", "asked for", _torch_runs_on(machine))
    return _automatic(machine)


def _automatic(machine: Machine) -> Choice:
    if machine.metal and machine.mlx:
        return Choice("mlx", "Apple silicon with Metal", "metal")
    if machine.cuda and machine.mlx and machine.mlx_cuda:
        return Choice("mlx", "an NVIDIA GPU, and MLX is built for CUDA", "cuda")
    if machine.torch:
        if _torch_runs_on(machine) == "cuda":
            return Choice("torch", "an NVIDIA GPU, and MLX is not built for CUDA", "cuda")
        if machine.metal:
            return Choice("torch", "MLX is not installed, so Metal is not used", "cpu")
        if machine.cuda:
            return Choice("torch", "an NVIDIA GPU, but no build for CUDA is installed", "cpu")
        return Choice("torch", "no Metal and no CUDA here, so the CPU", "cpu")
    if machine.mlx:
        return Choice("mlx", "no Metal and no CUDA here, and torch is not installed", "cpu")
    raise ConfigError(f"no backend is installed: {INSTALL_MLX}, or {INSTALL_TORCH}")


def _mlx_runs_on(machine: Machine) -> Accelerator:
    if machine.metal:
        return "metal"
    return "cuda" if machine.cuda and machine.mlx_cuda else "cpu"


def _torch_runs_on(machine: Machine) -> Accelerator:
    return "cuda" if machine.cuda and machine.torch_cuda else "cpu"


def probe() -> Machine:
    """Looks at this machine and this Python's packages."""
    cuda = _has_nvidia()
    return Machine(
        metal=platform.system() == "Darwin" and platform.machine() == "arm64",
        cuda=cuda,
        mlx=_installed("mlx") and _installed("mlx_lm"),
        mlx_cuda=cuda and _mlx_has_cuda(),
        torch=_installed("torch") and _installed("transformers"),
        torch_cuda=_torch_has_cuda(),
    )


def _installed(package: str) -> bool:
    return find_spec(package) is not None


def _has_nvidia() -> bool:
    return Path("/proc/driver/nvidia/version").exists() or any(Path("/dev").glob("nvidia[0-9]*"))


def _mlx_has_cuda() -> bool:
    return any((one.name or "").lower().startswith("mlx-cuda") for one in distributions())


def _torch_has_cuda() -> bool:
    """Linux wheels of torch are built for CUDA unless their version says `+cpu`."""
    try:
        return platform.system() == "Linux" and "+cpu" not in version("torch")
    except PackageNotFoundError:
        return False
