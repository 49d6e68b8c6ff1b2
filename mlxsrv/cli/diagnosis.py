"""The facts behind `mlxsrv doctor`, each looked up or tried, none assumed."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from mlxsrv import __version__
from mlxsrv.backends import blas, builtin, hubcache, select
from mlxsrv.config import sources
from mlxsrv.config.settings import Settings
from mlxsrv.core.errors import ConfigError

TRY_SECONDS = 120
_NAME = re.compile(r"^[A-Za-z0-9._-]+")


def examine(config: Path | None, backend: str | None) -> dict[str, Any]:
    """Everything as plain data; `problems` lists what makes serving impossible."""
    problems: list[str] = []
    settings = _settings(config, problems)
    machine = select.probe()
    choice = _choice(backend or settings.engine.backend, machine, problems)
    tried = {name: _try(name) for name in ("mlx", "torch") if getattr(machine, name)}
    if choice is not None and "error" in tried.get(choice.name, {}):
        problems.append(f"the {choice.name} backend does not work: {tried[choice.name]['error']}")
    packages = _packages()
    problems += [f"{name} is not installed" for name in _missing(packages)]
    models = hubcache.cached()
    demos = list(builtin.builtin_models())
    return {
        "version": __version__,
        "python": f"{platform.python_version()} ({sys.executable})",
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "backend": None
        if choice is None
        else {"name": choice.name, "accelerator": choice.accelerator, "reason": choice.reason},
        "tried": tried,
        "metal": machine.metal,
        "cuda": machine.cuda,
        "blas": _blas(),
        "memory": _memory(settings, tried.get(choice.name, {}) if choice else {}),
        "hub": {
            "folder": str(hubcache.cache_folder()),
            "models": len(models),
            "bytes": sum(model.size for model in models),
        },
        "demo_models": demos,
        "packages": packages,
        "hints": _hints(demos),
        "problems": problems,
    }


def _settings(config: Path | None, problems: list[str]) -> Settings:
    try:
        return sources.load(config)
    except ConfigError as error:
        problems += error.message.splitlines()
        return Settings()


def _choice(requested: str, machine: select.Machine, problems: list[str]) -> select.Choice | None:
    try:
        return select.decide(requested, machine)
    except ConfigError as error:
        problems.append(error.message)
        return None


def _try(name: str) -> dict[str, Any]:
    """Runs the backend in a process of its own, set up as `serve` sets itself up."""
    environment = blas.preloading(os.environ, blas.library()) if name == "mlx" else None
    try:
        done = subprocess.run(
            [sys.executable, "-m", "mlxsrv.backends.probe", name],
            capture_output=True,
            text=True,
            timeout=TRY_SECONDS,
            check=False,
            env=environment,
        )
        if done.returncode == 0:
            found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
            return found
    except subprocess.TimeoutExpired:
        return {"error": f"no answer within {TRY_SECONDS} s"}
    words = done.stderr.strip().splitlines()
    return {"error": words[-1] if words else f"exit code {done.returncode}"}


def _packages() -> dict[str, str | None]:
    """Version of every direct dependency that applies to this platform."""
    return {name: _version(name) for name in _requirements()}


def _requirements() -> list[str]:
    from packaging.requirements import Requirement

    try:
        declared = requires("mlxsrv") or []
    except PackageNotFoundError:
        return list(_UNINSTALLED)
    parsed = map(Requirement, declared)
    return [each.name for each in parsed if each.marker is None or each.marker.evaluate()]


_UNINSTALLED = ("fastapi", "uvicorn", "pydantic", "transformers", "huggingface-hub", "mlx", "torch")
"""What to look for when mlxsrv runs from a folder and was never installed."""


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _missing(packages: dict[str, str | None]) -> list[str]:
    """The backends may be missing, as long as one is there: the choice looks after that."""
    backends = {"mlx", "mlx-lm", "torch"}
    return [name for name, found in packages.items() if found is None and name not in backends]


def _blas() -> str:
    if platform.system() == "Darwin":
        return "Accelerate"
    found = blas.library()
    if os.environ.get(blas.SWITCH, "").lower() == blas.OFF:
        return f"MLX's reference BLAS ({blas.SWITCH}={blas.OFF})"
    if found is None:
        return f"MLX's reference BLAS, which is slow: apt-get install {blas.PACKAGE}"
    if blas.loaded(found):
        return f"OpenBLAS is preloaded in this process: {found}"
    return f"OpenBLAS, preloaded for MLX by `mlxsrv serve`: {found}"


def _memory(settings: Settings, tried: dict[str, Any]) -> dict[str, Any]:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    configured, recommended = settings.memory.budget_bytes, tried.get("memory_bytes")
    if configured is not None:
        budget, origin = int(configured), "from the settings"
    elif recommended is not None:
        budget, origin = int(recommended), "what the GPU recommends"
    else:
        budget, origin = total, "no budget is set, so all memory"
    return {"total_bytes": total, "budget_bytes": budget, "budget_from": origin}


def _hints(demos: list[str]) -> list[str]:
    hints = []
    if platform.system() == "Linux" and blas.library() is None:
        hints.append(f"MLX runs many times faster with OpenBLAS: apt-get install {blas.PACKAGE}")
    if not demos:
        hints.append("the demo models are not installed, so `mlxsrv serve` needs a MODEL")
    return hints
