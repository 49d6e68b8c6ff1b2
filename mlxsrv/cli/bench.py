"""`mlxsrv bench`: our servers, others and the libraries alone, measured side by side."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from mlxsrv.cli import table
from mlxsrv.core.errors import ConfigError

if TYPE_CHECKING:
    from mlxsrv.bench.results import Result
    from mlxsrv.bench.runner import Field
    from mlxsrv.bench.scenarios.base import Scenario
    from mlxsrv.bench.settings import Settings

ALL = "all"
NONE = "none"
BACKENDS = ("mlx", "torch")
SCENARIO_NAMES = (
    *("throughput", "prefill-interference", "multi-turn", "shared-prefix", "abort"),
    *("connections", "startup", "soak", "embeddings", "adapters", "load-cycles", "turns"),
    *("transcription", "transcription-memory", "transcription-interference", "speech"),
    *("images", "image-interference"),
)
"""Known without importing them, which would take longer than the help."""
EVERY_PEER = "every one that is installed"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "scenarios",
        nargs="*",
        metavar="SCENARIO",
        help=f"what to measure, or `all` (default: throughput): {', '.join(SCENARIO_NAMES)}",
    )
    parser.add_argument("--list", action="store_true", help="list the scenarios")
    _add_targets(parser.add_argument_group("who"))
    _add_load(parser.add_argument_group("what"))
    out = parser.add_argument_group("where to")
    out.add_argument("--json", type=Path, metavar="FILE", help="every figure of every round")
    out.add_argument("--picture", type=Path, metavar="FILE", help="throughput as a PNG")
    out.add_argument("--dir", type=Path, metavar="DIR", help="where checkpoints are kept")
    out.add_argument("--logs", type=Path, metavar="DIR", help="keep what the servers say here")


def _add_targets(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--backend",
        action="append",
        choices=(*BACKENDS, NONE),
        help="ours to start, repeatable (default: both)",
    )
    group.add_argument(
        "--against",
        action="append",
        metavar="PEER[=VENV]",
        help="mlx_lm.server, vllm-mlx, transformers, llama_cpp or infinity, repeatable, from "
        f"another virtual environment if named; `none` (default: {EVERY_PEER})",
    )
    group.add_argument("--no-limit", action="store_true", help="leave out the libraries alone")
    group.add_argument("--url", help="a server that runs already, instead of starting any")
    group.add_argument("--model", default="any", help="what that server calls its model")
    group.add_argument("--api-key", help="that server's key")
    group.add_argument("--pid", type=int, help="its process, to see its memory and its work")


def _add_load(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--checkpoint",
        action="append",
        metavar="NAME",
        help="tiny, small, demo or a folder with a vocabulary of ours, repeatable "
        "(default: what suits the scenario)",
    )
    group.add_argument("--rounds", type=_positive, default=5, help="after a warm-up (default: 5)")
    group.add_argument(
        "--concurrency",
        type=_positive_list,
        default=(1, 4, 16),
        metavar="N,…",
        help="streams at once (default: 1,4,16)",
    )
    group.add_argument("--prompt-tokens", type=_positive, default=32, help="(default: 32)")
    group.add_argument("--max-tokens", type=_positive, help="(default: tiny 128, small 64)")
    group.add_argument("--no-stream", action="store_true", help="ask for whole answers")
    group.add_argument("--api", choices=("chat", "completions"), default="chat")
    group.add_argument(
        "--requests", type=_positive, default=5000, help="of the soak (default: 5000)"
    )
    group.add_argument(
        "--sentences", type=_positive, default=1000, help="of embeddings (default: 1000)"
    )
    group.add_argument(
        "--cycles", type=_positive, default=200, help="of load-cycles (default: 200)"
    )
    group.add_argument(
        "--seconds", type=_positive, default=120, help="that turns lasts (default: 120)"
    )
    group.add_argument(
        "--minutes", type=_positive, default=10, help="of sound for transcription (default: 10)"
    )


def run(args: argparse.Namespace) -> int:
    from mlxsrv.bench.scenarios import SCENARIOS

    if args.list:
        table.show(("SCENARIO", "WHAT"), [(s.name, s.summary) for s in SCENARIOS.values()])
        return 0
    chosen = _chosen(args.scenarios)
    settings = _settings(args)
    # Asked for now, since what fails at the end costs the whole run.
    if args.picture is not None:
        _require("matplotlib", "--picture")
    _require("psutil", "bench")
    field = _field(args)
    with tempfile.TemporaryDirectory() as folder:
        logs = args.logs or Path(folder)
        logs.mkdir(parents=True, exist_ok=True)
        results = _measure(chosen, args.checkpoint, field, settings, logs)
    _keep(results, settings, args)
    return 0 if any(t.samples for result in results for t in result.targets) else 1


def _chosen(names: list[str]) -> list[Scenario]:
    from mlxsrv.bench.scenarios import SCENARIOS

    if ALL in names:
        return list(SCENARIOS.values())
    for name in names:
        if name not in SCENARIOS:
            raise ConfigError(f"no scenario {name}: there are {', '.join(SCENARIOS)} and {ALL}")
    return [SCENARIOS[name] for name in names or ["throughput"]]


def _settings(args: argparse.Namespace) -> Settings:
    from mlxsrv.bench.checkpoints import default_cache
    from mlxsrv.bench.settings import Settings

    return Settings(
        cache=args.dir or default_cache(),
        rounds=args.rounds,
        concurrency=args.concurrency,
        prompt_tokens=args.prompt_tokens,
        max_tokens=args.max_tokens,
        stream=not args.no_stream,
        api=args.api,
        requests=args.requests,
        sentences=args.sentences,
        cycles=args.cycles,
        seconds=args.seconds,
        minutes=args.minutes,
    )


def _require(module: str, what: str) -> None:
    from importlib.util import find_spec

    if find_spec(module) is None:
        raise ConfigError(f"{what}: needs {module}; pip install 'mlxsrv[bench]'")


def _field(args: argparse.Namespace) -> Field:
    from mlxsrv.bench.client import Endpoint
    from mlxsrv.bench.recipes import OURS, PEERS, peer
    from mlxsrv.bench.runner import Field
    from mlxsrv.bench.subjects import Subject

    if args.url:
        endpoint = Endpoint.of(args.url, args.model, args.api_key)
        return Field(running=[Subject(args.url, None, endpoint, args.pid)])
    asked = args.backend or list(BACKENDS)
    ours = [recipe for name, recipe in OURS.items() if name in asked and recipe.installed()]
    families = [recipe.family for recipe in ours]
    if args.against:
        peers = [peer(spec) for spec in args.against if spec != NONE]
    else:
        peers = [p for p in PEERS.values() if p.family in families and p.installed()]
    limits = dict.fromkeys([*families, *(p.family for p in peers)])
    return Field([*ours, *peers], [] if args.no_limit else list(limits))


def _measure(
    chosen: list[Scenario],
    checkpoints: list[str] | None,
    field: Field,
    settings: Settings,
    logs: Path,
) -> list[Result]:
    """Prints each table as soon as it is there."""
    import uvloop

    from mlxsrv.bench import report, runner

    # Ended from outside, the servers have to end too, as they do on Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    results = []
    for scenario in chosen:
        for name in checkpoints or scenario.checkpoints:
            found = uvloop.run(runner.run(scenario, name, field, settings, logs, _progress))
            results.append(found)
            print(f"\n{report.title(found)}\n")
            table.show(report.HEAD, report.rows(found))
            for line in report.remarks(found):
                print(line)
            sys.stdout.flush()
    return results


def _progress(line: str) -> None:
    print(f"bench: {line}", file=sys.stderr, flush=True)


def _keep(results: list[Result], settings: Settings, args: argparse.Namespace) -> None:
    from mlxsrv.bench import picture, report

    if args.json is not None:
        text = json.dumps(report.document(results, settings), indent=1)
        args.json.write_text(text + "\n", encoding="utf-8")
    drawn = [result for result in results if result.scenario == "throughput"]
    if args.picture is not None and drawn:
        picture.draw(drawn, args.picture)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return int(text)


def _positive_list(text: str) -> tuple[int, ...]:
    return tuple(_positive(part) for part in text.split(","))
