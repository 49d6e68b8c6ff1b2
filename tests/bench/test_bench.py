"""The whole bench: a real server of ours, the libraries alone, real sockets."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from mlxsrv.bench import checkpoints, servers
from mlxsrv.bench.checkpoints import Checkpoint, Shape
from mlxsrv.bench.processes import memory_mb, seconds_until_idle
from mlxsrv.bench.recipes import OURS, PEERS, peer
from mlxsrv.bench.scenarios import SCENARIOS
from mlxsrv.bench.subjects import Work
from mlxsrv.bench.words import Speaker
from mlxsrv.cli.main import main
from mlxsrv.core.errors import ConfigError, LoadError

SHAPE = Shape(64, 2, 1, 1, 64, 400)


@pytest.fixture
def small_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in checkpoints.SHAPES:
        monkeypatch.setitem(checkpoints.SHAPES, name, SHAPE)


@pytest.mark.slow
@pytest.mark.usefixtures("small_shapes")
def test_ours_is_measured_against_the_library_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = tmp_path / "bench.json"
    words = ["bench", "throughput", "connections", "--backend", "torch", "--against", "none"]
    words += ["--checkpoint", "tiny", "--rounds", "1", "--concurrency", "1,3", "--max-tokens", "5"]
    words += ["--dir", str(tmp_path), "--json", str(written)]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "throughput on tiny" in out
    assert out.count("no errors") == 2
    throughput, connections = json.loads(written.read_text())["results"]
    assert [target["name"] for target in throughput["targets"]] == [
        "transformers loop",
        "mlxsrv torch",
    ]
    for target in throughput["targets"]:
        by_case = {(m["case"], m["name"]): m["median"] for m in target["metrics"]}
        assert by_case["1 stream", "throughput"] > 0
        assert by_case["3 streams", "first token"] > 0
        assert by_case["3 streams", "errors"] == 0
    (target,) = connections["targets"]
    assert {m["case"] for m in target["metrics"]} == {"200 idle", "50 streams"}


@pytest.mark.slow
def test_a_server_is_started_asked_held_still_and_ended(tmp_path: Path) -> None:
    checkpoints.build(tmp_path, SHAPE)
    checkpoint = Checkpoint("x", tmp_path, SHAPE.vocabulary, 4 * SHAPE.parameters)
    chat = [Speaker(SHAPE.vocabulary, 1).user(4)]

    async def use() -> None:
        server = await servers.launch(OURS["torch"], checkpoint, tmp_path)
        try:
            for api in ("chat", "completions"):
                for stream in (True, False):
                    answer = await server.subject.ask(chat, Work(9, stream, api))
                    assert answer.error is None
                    assert answer.tokens == 9
                    assert len(answer.text.split()) == 9
                    assert len(answer.arrivals) == (9 if stream else 1)
            wrong = await server.subject.ask(chat, Work(9, sampling={"temperature": 99}))
            assert wrong.status == 400
            request = await server.subject.start(chat, Work(3000))
            await request.reached(3)
            request.leave()
            assert (await request.answer()).error is None
            assert server.subject.pid is not None
            assert await seconds_until_idle(server.subject.pid, 20) < 20
            assert memory_mb(server.subject.pid) > 50
            server.child.pause()
            server.child.resume()
            assert (await server.subject.ask(chat, Work(1))).error is None
        finally:
            server.child.stop()
        assert server.child.process.returncode is not None
        gone = await server.subject.ask(chat, Work(1))
        assert gone.error is not None
        assert gone.error.startswith("no connection")

    asyncio.run(use())


def test_a_server_that_does_not_come_up_says_why(tmp_path: Path) -> None:
    missing = Checkpoint("x", tmp_path / "none", SHAPE.vocabulary, 0)
    with pytest.raises(LoadError, match=r"mlxsrv torch does not come up: .*no such"):
        asyncio.run(servers.launch(OURS["torch"], missing, tmp_path))


def test_peers_are_found_by_name_and_environment(tmp_path: Path) -> None:
    assert peer("mlx_lm.server").command == PEERS["mlx_lm.server"].command
    with pytest.raises(ConfigError, match=r"no server 'vllm'; there are mlx_lm\.server,"):
        peer("vllm")
    with pytest.raises(ConfigError, match=f"vllm-mlx is not installed in {tmp_path}"):
        peer(f"vllm-mlx={tmp_path}")


def test_commands_name_the_checkpoint_and_the_port(tmp_path: Path) -> None:
    checkpoint = Checkpoint("x", tmp_path / "x", SHAPE.vocabulary, 100)
    for recipe in (*OURS.values(), *PEERS.values()):
        command = recipe.command(recipe.bin, checkpoint, 1234)
        assert "1234" in command
        assert any(part.startswith(str(tmp_path)) for part in command)
        assert "127.0.0.1" in command


def test_scenarios_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in SCENARIOS)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["nothing"], "no scenario nothing: there are throughput, prefill-interference,"),
        (["--url", "ftp://x"], "--url: ftp://x is not an http:// URL"),
        (["--against", "x"], "--against: no server 'x'"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *words]) == 1
    assert capsys.readouterr().err.startswith(f"mlxsrv: error: {line}")
