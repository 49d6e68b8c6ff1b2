"""`mlxsrv doctor`: what is here, what was chosen and why, what is missing."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any

from mlxsrv.cli import diagnosis, flags, table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--backend", help="auto, mlx or torch (default: from the settings)")
    flags.add_config_flag(parser)


def run(args: argparse.Namespace) -> int:
    found = diagnosis.examine(flags.config_file(args), args.backend)
    if args.json:
        print(json.dumps(found, indent=2))
    else:
        for line in _lines(found):
            print(line)
    return 1 if found["problems"] else 0


def _lines(found: dict[str, Any]) -> Iterator[str]:
    yield f"mlxsrv      {found['version']} on Python {found['python']}"
    yield f"platform    {found['platform']}, {found['cpus']} CPUs"
    backend = found["backend"]
    if backend:
        yield f"backend     {backend['name']} on {backend['accelerator']}: {backend['reason']}"
    for name, tried in found["tried"].items():
        yield f"{name:<12}{_outcome(tried)}"
    yield f"Metal       {'yes' if found['metal'] else 'no'}"
    yield f"CUDA        {'yes' if found['cuda'] else 'no'}"
    yield f"BLAS        {found['blas']}"
    memory = found["memory"]
    yield f"memory      {table.size(memory['total_bytes'])}"
    yield f"budget      {table.size(memory['budget_bytes'])} ({memory['budget_from']})"
    hub = found["hub"]
    models = "1 model" if hub["models"] == 1 else f"{hub['models']} models"
    yield f"hub cache   {hub['folder']}: {models}, {table.size(hub['bytes'])}"
    yield f"demo models {', '.join(found['demo_models']) or 'none'}"
    versions = (f"{name} {version or 'missing'}" for name, version in found["packages"].items())
    yield f"packages    {', '.join(versions)}"
    for hint in found["hints"]:
        yield f"hint: {hint}"
    for problem in found["problems"]:
        yield f"problem: {problem}"


def _outcome(tried: dict[str, Any]) -> str:
    if "error" in tried:
        return f"does not work: {tried['error']}"
    name = f" ({tried['name']})" if tried.get("name") else ""
    return f"works on {tried['device']}{name}, {tried['gflops']} GFLOP/s in float32"
