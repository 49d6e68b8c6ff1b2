"""How each server is started: exact command lines, and what has to be installed for it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from mlxsrv.backends import blas
from mlxsrv.backends.select import Backend
from mlxsrv.bench.checkpoints import Checkpoint
from mlxsrv.core.errors import ConfigError

ONE_THREAD_BYTES = 64_000_000
"""Models below this run faster on one thread (see `backends/torch/load.py`); peers that can
be told so are given the same."""

Purpose = Literal["chat", "embedding"]

Command = Callable[[Path, Checkpoint, int], list[str]]
"""(folder of executables, checkpoint, port) → the command."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A server that can be started on a checkpoint. `bin` is its environment's `bin` folder.

    `family` is the backend whose figures it is compared with; `health` the path that answers
    200 once it is ready; `needs` the Python module, which is also how its absence shows. Ours
    serve all there is, whatever `serves` says.
    """

    name: str
    family: Backend
    command: Command
    needs: str
    health: str = "/health"
    ours: bool = False
    by_path: bool = True
    serves: Purpose = "chat"
    bin: Path = Path(sys.executable).parent

    def installed(self) -> bool:
        python = self.bin / "python"
        if not python.exists():
            return False
        look = f"import sys, importlib.util as u; sys.exit(u.find_spec({self.needs!r}) is None)"
        return (
            subprocess.run([python, "-c", look], check=False, capture_output=True).returncode == 0
        )

    def model_name(self, checkpoint: Checkpoint) -> str:
        """What its requests call the model."""
        return str(checkpoint.folder) if self.by_path else checkpoint.folder.name

    def environment(self, checkpoint: Checkpoint) -> dict[str, str]:
        """The user's, without our settings; MLX gets the BLAS that ours gives itself."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("MLXSRV_")}
        kept |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        if not self.ours:
            kept |= _tuning(self.family, checkpoint)
        return kept


def _tuning(family: Backend, checkpoint: Checkpoint) -> Mapping[str, str]:
    if family == "mlx":
        library = blas.library()
        return {} if library is None else {"LD_PRELOAD": str(library)}
    return {"OMP_NUM_THREADS": str(threads(checkpoint))}


def threads(checkpoint: Checkpoint) -> int:
    return 1 if checkpoint.weight_bytes < ONE_THREAD_BYTES else os.cpu_count() or 1


def _ours(backend: Backend) -> Command:
    def command(_: Path, checkpoint: Checkpoint, port: int) -> list[str]:
        serve = [sys.executable, "-m", "mlxsrv", "serve", str(checkpoint.folder)]
        where = ["--host", "127.0.0.1", "--port", str(port), "--ports", ""]
        return [*serve, *where, "--backend", backend, "--log-level", "warning"]

    return command


def _mlx_lm(bin_: Path, checkpoint: Checkpoint, port: int) -> list[str]:
    serve = [str(bin_ / "python"), "-m", "mlx_lm", "server", "--model", str(checkpoint.folder)]
    return [*serve, "--host", "127.0.0.1", "--port", str(port), "--log-level", "WARNING"]


def _vllm_mlx(bin_: Path, checkpoint: Checkpoint, port: int) -> list[str]:
    serve = [str(bin_ / "vllm-mlx"), "serve", str(checkpoint.folder)]
    return [*serve, "--host", "127.0.0.1", "--port", str(port), "--continuous-batching"]


def _transformers(bin_: Path, checkpoint: Checkpoint, port: int) -> list[str]:
    # At its defaults its cache asks for 13 GB, whatever the model.
    batching = ["--continuous-batching", "--cb-num-blocks", "64", "--cb-max-batch-tokens", "256"]
    serve = [str(bin_ / "transformers"), "serve", str(checkpoint.folder)]
    where = ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    return [*serve, *where, *batching]


def _llama_cpp(bin_: Path, checkpoint: Checkpoint, port: int) -> list[str]:
    serve = [str(bin_ / "python"), "-m", "llama_cpp.server", "--model", str(checkpoint.gguf)]
    where = ["--host", "127.0.0.1", "--port", str(port)]
    return [*serve, *where, "--n_ctx", "4096", "--n_threads", str(threads(checkpoint))]


def _infinity(bin_: Path, checkpoint: Checkpoint, port: int) -> list[str]:
    serve = [str(bin_ / "infinity_emb"), "v2", "--model-id", str(checkpoint.folder)]
    where = ["--host", "127.0.0.1", "--port", str(port), "--url-prefix", "/v1"]
    return [*serve, *where, "--engine", "torch", "--device", "cpu", "--no-bettertransformer"]


OURS: dict[Backend, Recipe] = {
    "mlx": Recipe("mlxsrv mlx", "mlx", _ours("mlx"), "mlx_lm", ours=True, by_path=False),
    "torch": Recipe("mlxsrv torch", "torch", _ours("torch"), "torch", ours=True, by_path=False),
}
PEERS = {
    recipe.name: recipe
    for recipe in (
        Recipe("mlx_lm.server", "mlx", _mlx_lm, "mlx_lm"),
        Recipe("vllm-mlx", "mlx", _vllm_mlx, "vllm_mlx"),
        Recipe("transformers", "torch", _transformers, "transformers"),
        Recipe("llama_cpp", "torch", _llama_cpp, "llama_cpp.server", "/v1/models"),
        Recipe("infinity", "torch", _infinity, "infinity_emb", serves="embedding"),
    )
}


def peer(spec: str) -> Recipe:
    """A peer by name, or `NAME=FOLDER` for one in another virtual environment.

    Raises ConfigError.
    """
    name, _, folder = spec.partition("=")
    if name not in PEERS:
        raise ConfigError(f"--against: no server {name!r}; there are {', '.join(PEERS)}")
    found = PEERS[name]
    if folder:
        where = Path(folder).expanduser().absolute() / "bin"
        found = replace(found, bin=where)
    if not found.installed():
        raise ConfigError(f"--against: {name} is not installed in {found.bin.parent}")
    return found
