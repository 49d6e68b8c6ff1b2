"""`list --available` and `pull NAME`: the recommended models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlxsrv.backends import capacity, manifests
from mlxsrv.backends.select import Backend
from mlxsrv.cli.recommended import SHARE, Choice
from mlxsrv.core.manifest import MAIN
from tests.checkpoints import model_files
from tests.cli.command import mlxsrv
from tests.hub_double import running

HEAD = ["NAME", "KIND", "ID", "4-BIT", "8-BIT", "CONTEXT", "LICENCE", "HERE", "FOR"]


def documents(home: Path, *words: str) -> dict[str, dict[str, Any]]:
    done = mlxsrv(home, "list", "--available", "--json", *words)
    assert (done.returncode, done.stderr) == (0, "")
    return {document["name"]: document for document in json.loads(done.stdout)}


def test_the_table_shows_every_recommended_model(tmp_path: Path) -> None:
    done = mlxsrv(tmp_path, "list", "--available", "--backend", "torch")
    assert (done.returncode, done.stderr) == (0, "")
    head, *rows = done.stdout.splitlines()
    assert head.split() == HEAD
    assert [row.split()[0] for row in rows] == [found.name for found in manifests.manifests()]
    line = next(row for row in rows if row.startswith("llama-3.2-3b "))
    for cell in (" chat ", " meta-llama/Llama-3.2-3B-Instruct ", " 1.8 GB ", " 131072 "):
        assert cell in line
    assert "Llama 3.2 Community (gated)" in line
    assert line.endswith("summaries and rewriting of long texts")


def test_one_kind_on_either_backend(tmp_path: Path) -> None:
    on_mlx = documents(tmp_path, "--kind", "embedding", "--backend", "mlx")
    on_torch = documents(tmp_path, "--kind", "embedding", "--backend", "torch")
    assert {each["kind"] for each in on_mlx.values()} == {"embedding"}
    assert on_mlx.keys() == on_torch.keys()
    name = "qwen3-embedding-8b"
    assert on_mlx[name]["hub_id"].startswith("mlx-community/Qwen3-Embedding-8B-4bit-DWQ")
    assert on_torch[name]["hub_id"].startswith("Qwen/Qwen3-Embedding-8B")
    assert on_mlx[name]["memory_bytes"] == on_mlx[name]["memory_4bit"]
    assert on_torch[name]["memory_bytes"] == 2 * on_torch[name]["parameters"]
    room = SHARE * capacity.machine_bytes()
    for each in (*on_mlx.values(), *on_torch.values()):
        assert each["fits"] is (each["memory_bytes"] <= room)
        assert (each["served"], each["downloaded"]) == (True, False)


def test_nobody_is_promised_what_is_not_there(tmp_path: Path) -> None:
    shown = mlxsrv(tmp_path, "list", "--available", "--kind", "vision").stdout.splitlines()
    assert len(shown) > 1
    assert all(" not served yet " in row for row in shown[1:])


@pytest.mark.parametrize(
    ("name", "backend", "downloaded", "fits", "here"),
    [
        ("qwen3-4b", "mlx", False, True, "fits"),
        ("qwen3-4b", "mlx", False, False, "too large"),
        ("qwen3-4b", "torch", True, False, "downloaded"),
        ("gpt-oss-20b", "torch", False, True, "needs mlx"),
        ("flux.1-schnell", "mlx", True, True, "downloaded"),
        ("gemma-4-e4b", "mlx", True, True, "not served yet"),
    ],
)
def test_what_stands_in_the_way_comes_first(
    name: str, backend: Backend, downloaded: bool, fits: bool, here: str
) -> None:
    manifest = manifests.find(name)
    assert manifest is not None
    assert Choice(manifest, backend, downloaded, fits).here == here


def test_a_name_can_be_pulled_and_is_then_marked(tmp_path: Path) -> None:
    found = next(
        each
        for each in manifests.manifests()
        if each.served and each.repository("torch")[1] == MAIN and "torch" in each.backends
    )
    repo, _ = found.repository("torch")
    with running({repo: model_files()}) as hub:
        done = mlxsrv(tmp_path, "pull", found.name, "--backend", "torch", HF_ENDPOINT=hub.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{repo}: chat, 4.1 kB, in ")
    after = documents(tmp_path, "--backend", "torch")
    assert [name for name, each in after.items() if each["downloaded"]] == [found.name]


def test_the_settings_say_which_backend_a_name_is_pulled_for(tmp_path: Path) -> None:
    with running({}) as hub:
        for backend in ("mlx", "torch"):
            variables = {"HF_ENDPOINT": hub.url, "MLXSRV_BACKEND": backend}
            assert mlxsrv(tmp_path, "pull", "qwen3-4b", **variables).returncode == 1
        paths = [path for _, path, _ in hub.requests]
    found = manifests.find("qwen3-4b")
    assert found is not None
    assert [path for path in paths if path.startswith("/api/models/")] == [
        f"/api/models/{found.id}/revision/{found.revision}",
        f"/api/models/{found.source}/revision/{found.source_revision}",
    ]


def test_local_models_can_be_filtered_and_read_by_programs(tmp_path: Path) -> None:
    done = mlxsrv(tmp_path, "list", "--json", "--kind", "chat")
    demo = next(each for each in json.loads(done.stdout) if each["name"] == "demo-chat")
    assert demo["kind"] == "chat"
    assert Path(demo["path"]).is_dir()
    assert demo["bytes"] > 0
    assert json.loads(mlxsrv(tmp_path, "list", "--json", "--kind", "vision").stdout) == []
    assert mlxsrv(tmp_path, "list", "--kind", "vision").stdout == (
        "no vision models yet: mlxsrv pull NAME\n"
    )


def test_a_model_of_the_other_backend_is_not_pulled(tmp_path: Path) -> None:
    done = mlxsrv(tmp_path, "pull", "gpt-oss-20b", "--backend", "torch")
    assert done.returncode == 1
    assert done.stderr == (
        "mlxsrv: error: gpt-oss-20b runs on the mlx backend only, not on torch\n"
    )
