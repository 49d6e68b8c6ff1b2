"""The recommended models that are shipped, and the reader of their files."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mlxsrv
from mlxsrv.backends import builtin, manifests
from mlxsrv.config.sources import BUILT_IN
from mlxsrv.core.errors import CheckpointRefused, ConfigError
from mlxsrv.core.kinds import Kind
from mlxsrv.core.manifest import Manifest, weight_bytes

SHIPPED = manifests.manifests()
DOZEN = 12
A_FEW = 3
COMMIT = "0123456789abcdef0123456789abcdef01234567"

GOOD = f"""\
id = "mlx-community/Small-4bit"
revision = "{COMMIT}"
source = "org/Small"
kind = "embedding"
bits = 4
parameters = 1_000_000
parameters_16bit = 200_000
memory_4bit = 850_000
memory_8bit = 1_250_000
context_length = 512
dimensions = 64
licence = "MIT"
gated = true
for = "tests"
backends = ["mlx", "torch"]
"""


def written(folder: Path, text: str, name: str = "small") -> Path:
    file = folder / f"{name}.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_there_are_a_dozen_of_each_kind() -> None:
    found = Counter(manifest.kind for manifest in SHIPPED)
    assert found.pop(Kind.COMPLETION) >= A_FEW
    assert set(found) == set(Kind) - {Kind.COMPLETION}
    assert min(found.values()) >= DOZEN


@pytest.mark.parametrize("shipped", SHIPPED, ids=[manifest.name for manifest in SHIPPED])
def test_a_shipped_manifest_holds_together(shipped: Manifest) -> None:
    plain = shipped.parameters_16bit
    assert shipped.memory_4bit == weight_bytes(shipped.parameters, 4, plain=plain)
    assert shipped.memory_8bit == weight_bytes(shipped.parameters, 8, plain=plain)
    assert shipped.name not in BUILT_IN | set(builtin.builtin_models())
    assert manifests.find(shipped.name) == shipped
    for backend in shipped.backends:
        found = manifests.resolve(shipped.name, backend)
        assert found == shipped.repository(backend)
        assert not (backend == "torch" and found[0].startswith("mlx-community/"))


def test_no_two_recommend_the_same() -> None:
    assert len({manifest.id for manifest in SHIPPED}) == len(SHIPPED)
    assert len({manifest.purpose for manifest in SHIPPED}) == len(SHIPPED)


def test_they_come_by_kind_and_then_by_size() -> None:
    order = [(list(Kind).index(manifest.kind), manifest.parameters) for manifest in SHIPPED]
    assert order == sorted(order)


def test_a_name_means_what_the_backend_reads() -> None:
    four = manifests.find("qwen3-4b")
    assert four is not None
    assert manifests.hub_id("qwen3-4b", "mlx") == f"mlx-community/Qwen3-4B-4bit@{four.revision}"
    assert manifests.hub_id("qwen3-4b", "torch") == f"Qwen/Qwen3-4B@{four.source_revision}"
    assert manifests.resolve("phi-4", "torch") == ("microsoft/phi-4", "main")
    assert manifests.hub_id("phi-4", "torch") == "microsoft/phi-4"


@pytest.mark.parametrize(
    "name", ["nowhere", "", ".", "..", "../models/phi-4", "org/phi-4", "Phi-4", "phi-4.toml", "a\0"]
)
def test_other_names_mean_nothing(name: str) -> None:
    assert manifests.find(name) is None
    assert manifests.resolve(name, "mlx") is None
    assert manifests.hub_id(name, "torch") is None


def test_a_model_of_the_other_backend_is_refused() -> None:
    with pytest.raises(CheckpointRefused, match="gpt-oss-20b runs on the mlx backend only"):
        manifests.resolve("gpt-oss-20b", "torch")


def test_reading_gives_what_the_file_says(tmp_path: Path) -> None:
    found = manifests.read(written(tmp_path, GOOD))
    assert found == Manifest(
        name="small",
        id="mlx-community/Small-4bit",
        revision=COMMIT,
        source="org/Small",
        source_revision="main",
        kind=Kind.EMBEDDING,
        bits=4,
        parameters=1_000_000,
        parameters_16bit=200_000,
        memory_4bit=850_000,
        memory_8bit=1_250_000,
        context_length=512,
        dimensions=64,
        licence="MIT",
        gated=True,
        purpose="tests",
        backends=("mlx", "torch"),
    )
    assert (found.memory("mlx"), found.memory("torch")) == (850_000, 2_000_000)
    assert (found.gated_on("mlx"), found.gated_on("torch")) == (False, True)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('licence = "MIT"', 'licence = "MIT"\nsize = 3', "13: size: no such key"),
        ('for = "tests"', 'purpose = "tests"', "purpose: no such key"),
        ('for = "tests"\n', "", "for: is required"),
        ('kind = "embedding"', 'kind = "embeddings"', "4: kind: Input should be 'chat'"),
        ("memory_4bit = 850_000", "memory_4bit = -1", "8: memory_4bit: Input should be greater"),
        ("memory_4bit = 850_000", 'memory_4bit = "1 GB"', "8: memory_4bit: Input should be a val"),
        ("memory_8bit = 1_250_000", "memory_8bit = 1", "9: memory_8bit: is less than memory_4bit"),
        ("parameters = 1_000_000", "parameters = 0", "6: parameters: Input should be greater"),
        ("_16bit = 200_000", "_16bit = 2_000_000", "7: parameters_16bit: is more than parameters"),
        ("bits = 4", "bits = 5", "5: bits: Input should be 4 or 8"),
        ("gated = true", "gated = 1", "13: gated: Input should be a valid boolean"),
        ('["mlx", "torch"]', "[]", "15: backends: Tuple should have at least 1 item"),
        ('["mlx", "torch"]', '["cuda"]', "15: backends: Input should be 'mlx' or 'torch'"),
        (f'"{COMMIT}"', '"v1.0"', "2: revision: String should match pattern"),
        ('"org/Small"', '"Small"', "3: source: not a hub id: Small"),
        ('source = "org/Small"\n', "", "source: is required, since torch can't read"),
        ("context_length = 512\n", "", "context_length: is required of embedding"),
        ("dimensions = 64\n", "", "dimensions: is required of embedding"),
        ("bits = 4", "bits = ", "not valid TOML: "),
    ],
)
def test_a_bad_file_is_named_with_its_key(old: str, new: str, problem: str, tmp_path: Path) -> None:
    assert old in GOOD
    file = written(tmp_path, GOOD.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        manifests.read(file)
    assert caught.value.message.startswith(f"{file}:")
    assert problem in caught.value.message


def test_a_name_nobody_could_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a file can't be named Small Model"):
        manifests.read(written(tmp_path, GOOD, "Small Model"))


def test_an_installed_package_has_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site-packages" / "mlxsrv"
    (package / "models").mkdir(parents=True)
    written(package / "models", GOOD)
    monkeypatch.setattr(mlxsrv, "__file__", str(package / "__init__.py"))
    assert [manifest.name for manifest in manifests.manifests()] == ["small"]
    assert manifests.find("small") is not None
    assert manifests.find("phi-4") is None


def test_without_any_there_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlxsrv, "__file__", str(tmp_path / "mlxsrv" / "__init__.py"))
    assert manifests.manifests() == []
    assert manifests.find("phi-4") is None


def test_reading_them_imports_nothing_heavy() -> None:
    script = """
import sys
from mlxsrv.backends import manifests
assert manifests.manifests()
print(sorted({"mlx", "torch", "transformers", "huggingface_hub", "numpy"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


@given(parameters=st.integers(1, 10**12), share=st.floats(0, 1))
def test_fewer_bits_never_weigh_more(parameters: int, share: float) -> None:
    plain = int(parameters * share)
    four, eight = (weight_bytes(parameters, bits, plain=plain) for bits in (4, 8))
    assert 2 * plain <= four <= eight <= 2 * parameters


def test_weights_are_counted_with_their_scales() -> None:
    # A group of 64 weights: 32 bytes at 4 bits, and a scale and a bias of 2 bytes each.
    assert weight_bytes(64, 4) == 36
    assert weight_bytes(64, 8) == 68
    assert weight_bytes(64, 4, plain=64) == 128
