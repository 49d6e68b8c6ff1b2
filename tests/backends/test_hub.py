"""Models by hub id, over real HTTP, into a cache of the test's own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlxsrv.backends import hubcache
from mlxsrv.core.errors import ModelNotFound
from tests.checkpoints import model_files, pipeline_files, safetensors
from tests.hub_double import COMMIT, HubDouble, running

SECOND = safetensors({"a": ("F32", (512, 64))})

PARTS = pipeline_files()
REPOS = {
    "org/flux": {
        **PARTS,
        "flux1-schnell.safetensors": SECOND,
        "ae.safetensors": SECOND,
        "README.md": b"# hi",
        "transformer/diffusion_pytorch_model.fp16.safetensors": SECOND,
        "text_encoder/pytorch_model.bin": b"boom",
        "vae/onnx/model.onnx": b"boom",
        "text_encoder/flax_model.msgpack": b"boom",
    },
    "org/flux-pickled": {
        "model_index.json": b"{}",
        "whole.safetensors": SECOND,
        "unet/diffusion_pytorch_model.bin": b"boom",
    },
    "org/lora": {"pytorch_lora_weights.safetensors": SECOND, "README.md": b"# hi"},
    "org/tiny": {**model_files(), "README.md": b"# hi", "model.py": b"boom", "extra.bin": b"boom"},
    "org/gated": model_files(),
    "org/large": {
        **model_files(),
        "model.safetensors": SECOND,
        "consolidated.safetensors": SECOND,
    },
    "org/pickled": {"config.json": b"{}", "pytorch_model.bin": b"boom"},
    "org/empty": {"README.md": b"# hi"},
}

SCRIPT = """
import json, sys
from mlxsrv.backends import hub
from mlxsrv.core.errors import MlxsrvError
seen = []
try:
    folder = hub.locate(sys.argv[1], download=sys.argv[2] == "yes", progress=seen.append)
    print(json.dumps({"folder": str(folder), "seen": [[p.file, p.done, p.total] for p in seen]}))
except MlxsrvError as error:
    print(json.dumps({"error": error.message, "type": type(error).__name__}))
"""


class User:
    """Someone with a home of their own, who asks for models in a fresh process each time.

    The hub client reads its variables once, as it is imported.
    """

    def __init__(self, home: Path, url: str) -> None:
        self.home, self.url = home, url
        self.variables: dict[str, str] = {}

    def locate(self, model: str, *, download: bool = True) -> dict[str, object]:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, model, "yes" if download else "no"],
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.home),
                "HF_HOME": str(self.home / "hf"),
                "HF_ENDPOINT": self.url,
                "PYTHONPATH": os.getcwd(),
                **self.variables,
            },
            capture_output=True,
            text=True,
            check=True,
        )
        found: dict[str, object] = json.loads(done.stdout)
        return found


@pytest.fixture
def hub() -> Iterator[HubDouble]:
    with running(REPOS) as double:
        yield double


@pytest.fixture
def user(hub: HubDouble, tmp_path: Path) -> User:
    return User(tmp_path, hub.url)


def closed_url() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def test_download_reports_progress_then_serves_offline(hub: HubDouble, user: User) -> None:
    found = user.locate("org/tiny")
    folder = Path(str(found["folder"]))
    files = sorted(file.name for file in folder.iterdir())
    assert files == ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    assert (folder / "model.safetensors").read_bytes() == REPOS["org/tiny"]["model.safetensors"]
    seen = found["seen"]
    assert isinstance(seen, list)
    done = [step[1] for step in seen]
    assert done == sorted(done)
    assert seen[-1][0] == "model.safetensors"
    assert seen[-1][1] == seen[-1][2] == sum(len(REPOS["org/tiny"][name]) for name in files)

    before = len(hub.requests)
    again = user.locate("org/tiny", download=False)
    user.url = closed_url()
    offline = user.locate("org/tiny")
    assert again["folder"] == offline["folder"] == str(folder)
    assert len(hub.requests) == before


def test_an_image_model_comes_in_parts_and_only_once(user: User) -> None:
    folder = Path(str(user.locate("org/flux")["folder"]))
    found = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    assert found == set(PARTS)
    assert user.locate("org/flux", download=False)["folder"] == str(folder)
    (folder / "tokenizer" / "vocab.json").unlink()
    (folder / "tokenizer" / "merges.txt").unlink()
    (folder / "tokenizer").rmdir()
    assert user.locate("org/flux", download=False)["type"] == "ModelNotFound"


def test_an_adapter_of_an_image_model_is_but_its_weights(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(str(user.locate("org/lora")["folder"]))
    monkeypatch.setenv("HF_HUB_CACHE", str(user.home / "hf" / "hub"))
    assert hubcache.find_adapter("org/lora") == folder
    user.locate("org/tiny")
    assert hubcache.find_adapter("org/tiny") is None


def test_cache_layout_is_the_one_that_other_tools_read(user: User) -> None:
    from huggingface_hub import try_to_load_from_cache

    user.locate("org/tiny")
    cache = user.home / "hf" / "hub"
    found = try_to_load_from_cache("org/tiny", "model.safetensors", cache_dir=cache)
    assert isinstance(found, str)
    assert Path(found).read_bytes() == REPOS["org/tiny"]["model.safetensors"]


def test_a_revision_is_found_again_by_its_name_and_by_its_commit(user: User) -> None:
    folder = user.locate("org/tiny@v1.0")["folder"]
    for name in ("org/tiny@v1.0", f"org/tiny@{COMMIT}", "org/tiny@0123456", "org/tiny"):
        assert user.locate(name, download=False)["folder"] == folder
    assert user.locate("org/tiny@v2", download=False)["type"] == "ModelNotFound"
    assert user.locate("org/tiny@v2")["error"] == f"org/tiny has no revision v2 at {user.url}"


def test_a_connection_that_breaks_is_taken_up_again(hub: HubDouble, user: User) -> None:
    hub.cut_after = [40_000, 30_000]
    folder = Path(str(user.locate("org/large")["folder"]))
    assert (folder / "model.safetensors").read_bytes() == SECOND
    ranges = [given for _, path, given in hub.requests if path.endswith("/model.safetensors")]
    assert ranges == [None, "bytes=40000-", "bytes=70000-"]
    assert not any("consolidated" in path for _, path, _ in hub.requests)


def test_a_download_that_was_given_up_goes_on_in_the_next_process(
    hub: HubDouble, user: User
) -> None:
    hub.cut_after = [50_000, 0, 0, 0]
    failed = user.locate("org/large")
    assert failed["type"] == "HubUnreachable"
    assert user.locate("org/large", download=False)["type"] == "ModelNotFound"
    hub.requests.clear()
    folder = Path(str(user.locate("org/large")["folder"]))
    assert (folder / "model.safetensors").read_bytes() == SECOND
    assert [given for _, path, given in hub.requests if "/resolve/" in path] == ["bytes=50000-"]


def test_damage_on_the_way_is_noticed_and_not_kept(hub: HubDouble, user: User) -> None:
    hub.corrupt = {"model.safetensors"}
    assert "arrived damaged" in str(user.locate("org/large")["error"])
    hub.corrupt = set()
    folder = Path(str(user.locate("org/large")["folder"]))
    assert (folder / "model.safetensors").read_bytes() == SECOND


def test_a_gated_model_says_what_to_do_and_then_comes(hub: HubDouble, user: User) -> None:
    hub.gated = {"org/gated"}
    error = str(user.locate("org/gated")["error"])
    assert f"accept its licence at {hub.url}/org/gated" in error
    assert "HF_TOKEN" in error
    user.variables = {"HF_TOKEN": hub.token}
    assert "folder" in user.locate("org/gated")


@pytest.mark.parametrize(
    ("model", "kind", "words"),
    [
        ("org/none", "ModelNotFound", "there is no model org/none"),
        ("org/pickled", "CheckpointRefused", "org/pickled has only .bin files: use a version"),
        ("org/flux-pickled", "CheckpointRefused", "org/flux-pickled has only .bin files"),
        ("org/empty", "CheckpointRefused", "org/empty has no model weights"),
    ],
)
def test_what_can_not_be_had(user: User, model: str, kind: str, words: str) -> None:
    found = user.locate(model)
    assert found["type"] == kind
    assert words in str(found["error"])


def test_no_hub_in_reach(user: User) -> None:
    user.url = closed_url()
    found = user.locate("org/tiny")
    assert found["type"] == "HubUnreachable"
    assert f"can't reach {user.url}: " in str(found["error"])
    assert "`mlxsrv pull org/tiny`, or pass a folder" in str(found["error"])
    user.variables = {"HF_HUB_OFFLINE": "1"}
    assert "HF_HUB_OFFLINE is set" in str(user.locate("org/tiny")["error"])


def test_a_folder_is_taken_as_it_is(user: User, tmp_path: Path) -> None:
    assert user.locate(str(tmp_path))["folder"] == str(tmp_path)


def test_listing_and_removing(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    user.locate("org/tiny")
    monkeypatch.setenv("HF_HUB_CACHE", str(user.home / "hf" / "hub"))
    [model] = hubcache.cached()
    assert (model.id, model.folder) == ("org/tiny", hubcache.find("org/tiny"))
    assert model.size > len(REPOS["org/tiny"]["model.safetensors"])
    assert hubcache.remove("org/tiny") == model.size
    assert hubcache.cached() == []
    with pytest.raises(ModelNotFound, match="org/tiny is not in "):
        hubcache.remove("org/tiny")


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"HF_HUB_CACHE": "/a", "HF_HOME": "/b"}, "/a"),
        ({"HUGGINGFACE_HUB_CACHE": "/c"}, "/c"),
        ({"HF_HOME": "/b"}, "/b/hub"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/huggingface/hub"),
    ],
)
def test_cache_folder_honours_the_known_variables(variables: dict[str, str], folder: str) -> None:
    assert hubcache.cache_folder(variables) == Path(folder)
