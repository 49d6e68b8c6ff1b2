"""What every transcription backend must do, proven on both with the same checkpoints."""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from mlxsrv.backends import checkpoint, slices
from mlxsrv.backends.base import Encoded, TranscriptionBackend
from mlxsrv.backends.load import finished, load_transcription
from mlxsrv.backends.select import Backend
from mlxsrv.core.errors import InvalidRequest, LoadError
from tests import tiny_whisper as tiny
from tests.tiny_encoders import edit, edit_weights, shard
from tests.tiny_whisper import ALIGNMENT_HEADS, Floats, Reference

Tensors = dict[str, torch.Tensor]

MOMENTS = 150
"""Of a window; Whisper's own have ten times as many, and take ten times as long."""

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("mlx_thread")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint as transformers publishes it; not to be changed."""
    return tiny.build(tmp_path_factory.mktemp("whisper") / "tiny", audio_context=MOMENTS)


@pytest.fixture(scope="module")
def reference(folder: Path) -> Reference:
    return Reference(folder)


@pytest.fixture(scope="module")
def loaded(folder: Path) -> Callable[[Backend], TranscriptionBackend]:
    """That checkpoint on a backend, loaded once each."""
    backends: dict[Backend, TranscriptionBackend] = {}

    def get(name: Backend) -> TranscriptionBackend:
        if name not in backends:
            backends[name] = load(name, folder)
        return backends[name]

    return get


@pytest.fixture
def backend(
    backend_name: Backend, loaded: Callable[[Backend], TranscriptionBackend]
) -> TranscriptionBackend:
    backend = loaded(backend_name)
    backend.reset()
    return backend


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """The checkpoint, to be changed."""
    return Path(shutil.copytree(folder, tmp_path / "changed"))


def load(backend: Backend, folder: Path) -> TranscriptionBackend:
    return finished(load_transcription(backend, checkpoint.read(folder)))


def random_mel(seed: int, mels: int = 80) -> Floats:
    return tiny.random_mel(seed, mels=mels, frames=2 * MOMENTS)


def encode(backend: TranscriptionBackend, mels: Sequence[Floats]) -> list[Encoded]:
    *waits, windows = backend.encode_steps(mels)
    assert windows is not None
    assert all(wait is None for wait in waits)
    return windows


def window_of(backend: TranscriptionBackend, seed: int = 0) -> Encoded:
    (window,) = encode(backend, [random_mel(seed)])
    return window


def feed(backend: TranscriptionBackend, rows: int) -> dict[int, Floats]:
    """Steps until so many rows have logits."""
    found: dict[int, Floats] = {}
    for _ in range(rows):
        found |= backend.step()
        if len(found) == rows:
            return found
    raise AssertionError(f"only {sorted(found)} were fed")


def assert_same(found: Floats, expected: Floats) -> None:
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-3)


def softmax(scores: Floats) -> NDArray[np.float64]:
    shares = np.exp(scores.astype(np.float64) - scores.max(-1, keepdims=True))
    return np.asarray(shares / shares.sum(-1, keepdims=True))


PROMPTS = {1: (0, [260, 5, 9]), 2: (1, [260]), 3: (1, [260, 7]), 4: (0, list(range(30, 70)))}
"""Rows as (window, prompt)."""


def insert(backend: TranscriptionBackend, uids: Sequence[int], windows: Sequence[Encoded]) -> None:
    for uid in uids:
        place, prompt = PROMPTS[uid]
        backend.insert(uid, windows[place], prompt)


def expected(reference: Reference, uid: int, more: Sequence[int] = ()) -> Floats:
    place, prompt = PROMPTS[uid]
    last: Floats = reference.logits(random_mel(place), [*prompt, *more])[-1]
    return last


def test_rows_of_any_length_get_the_logits_of_transformers(
    backend: TranscriptionBackend, reference: Reference
) -> None:
    windows = encode(backend, [random_mel(0), random_mel(1)])
    insert(backend, [1, 2, 3, 4], windows)
    found = feed(backend, 4)
    for uid in PROMPTS:
        assert np.ptp(expected(reference, uid)) > 1
        assert_same(found[uid], expected(reference, uid))
    for token in (11, 300, 1905):
        for uid in PROMPTS:
            backend.extend(uid, token)
        found = backend.step()
    assert set(found) == set(PROMPTS)
    for uid in PROMPTS:
        assert_same(found[uid], expected(reference, uid, (11, 300, 1905)))


def test_windows_differ(reference: Reference) -> None:
    """Else the tests could not tell one window from the other."""
    here, there = (reference.logits(random_mel(seed), [260, 5])[-1] for seed in (0, 1))
    assert np.abs(here - there).max() > 0.1


def test_rows_join_and_leave_between_steps(
    backend: TranscriptionBackend, reference: Reference
) -> None:
    windows = encode(backend, [random_mel(0), random_mel(1)])
    insert(backend, [1, 2], windows)
    feed(backend, 2)
    for uid in (1, 2):
        backend.extend(uid, 20)
    insert(backend, [3, 4], windows)
    first = backend.step()
    # Rows that decode do not wait for a prompt.
    assert {1, 2} <= set(first)
    while 4 not in first:
        first |= backend.step()
    backend.remove([1, 99])
    for uid in (2, 3, 4):
        backend.extend(uid, 21)
    found = backend.step()
    assert_same(found[2], expected(reference, 2, [20, 21]))
    assert_same(found[3], expected(reference, 3, [21]))
    assert_same(found[4], expected(reference, 4, [21]))
    backend.remove([4, 2])
    insert(backend, [1], windows)
    backend.extend(3, 22)
    found = feed(backend, 2)
    assert_same(found[3], expected(reference, 3, [21, 22]))
    assert_same(found[1], expected(reference, 1))


def test_a_row_that_has_nothing_new_is_left_out(
    backend: TranscriptionBackend, reference: Reference
) -> None:
    windows = encode(backend, [random_mel(0), random_mel(1)])
    insert(backend, [1, 2, 3], windows)
    feed(backend, 3)
    assert backend.step() == {}
    backend.extend(2, 20)
    assert set(backend.step()) == {2}
    backend.extend(2, 21)
    backend.extend(3, 22)
    found = backend.step()
    assert_same(found[2], expected(reference, 2, [20, 21]))
    assert_same(found[3], expected(reference, 3, [22]))


def test_many_rows_share_a_window(backend: TranscriptionBackend, reference: Reference) -> None:
    windows = encode(backend, [random_mel(0), random_mel(1)])
    for uid in range(9):
        backend.insert(uid, windows[uid % 3 == 0], [260, 5])
    feed(backend, 9)
    for uid in range(9):
        backend.extend(uid, 30 + uid)
    found = backend.step()
    for uid in range(9):
        mel = random_mel(uid % 3 == 0)
        assert_same(found[uid], reference.logits(mel, [260, 5, 30 + uid])[-1])


def test_windows_encoded_together_and_alone_are_the_same(backend: TranscriptionBackend) -> None:
    mels = [random_mel(seed) for seed in range(3)]
    together = encode(backend, mels)
    alone = [encode(backend, [mel])[0] for mel in mels]
    for uid, window in enumerate([*together, *alone]):
        backend.insert(uid, window, [260, 5])
    found = feed(backend, 6)
    for place in range(3):
        assert_same(found[place], found[place + 3])


def test_a_row_to_its_very_end(backend: TranscriptionBackend, reference: Reference) -> None:
    tokens = [3 + place % 250 for place in range(448)]
    window = window_of(backend)
    backend.insert(1, window, tokens[:440])
    backend.insert(2, window, [260])
    feed(backend, 2)
    for token in tokens[440:]:
        backend.extend(1, token)
        backend.extend(2, token)
        found = backend.step()
    whole = reference.logits(random_mel(0), tokens)
    assert_same(found[1], whole[-1])
    assert_same(found[2], reference.logits(random_mel(0), [260, *tokens[440:]])[-1])
    with pytest.raises(InvalidRequest, match="at most 448 tokens"):
        backend.extend(1, 5)


@pytest.mark.parametrize("tokens", [[], [-1], [1906], [5, 10**9], [5] * 449])
def test_tokens_that_the_model_can_not_take(
    backend: TranscriptionBackend, tokens: list[int]
) -> None:
    window = window_of(backend)
    with pytest.raises(InvalidRequest):
        backend.insert(1, window, tokens)
    with pytest.raises(InvalidRequest):
        backend.align(window, tokens)
    assert backend.step() == {}


def test_alignment_is_the_attention_of_transformers(
    backend: TranscriptionBackend, reference: Reference
) -> None:
    tokens = [260, 5, 9, 40, 7]
    windows = encode(backend, [random_mel(0), random_mel(1)])
    insert(backend, [1, 2], windows)
    backend.step()
    for seed, window in enumerate(windows):
        scores = backend.align(window, tokens)
        assert scores.shape == (len(ALIGNMENT_HEADS), len(tokens), MOMENTS)
        found = softmax(scores).astype(np.float32)
        spread = reference.attention(random_mel(seed), tokens)
        assert spread.max() > 0.01
        np.testing.assert_allclose(found, spread, atol=1e-4)
    # The rows that decode beside it are not touched.
    backend.extend(1, 20)
    assert_same(backend.step()[1], expected(reference, 1, [20]))


def test_encoding_takes_many_slices_where_layers_take_long(
    backend: TranscriptionBackend,
    backend_name: Backend,
    reference: Reference,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slices, "SLICE_SECONDS", 0)
    monkeypatch.setattr(f"mlxsrv.backends.{backend_name}.whisper.ROWS_AT_ONCE", 40)
    *waits, windows = backend.encode_steps([random_mel(0), random_mel(1)])
    parts = -(-MOMENTS // 40)
    assert len(waits) >= 2 * parts + 2 * 2
    assert windows is not None
    insert(backend, [1, 2], windows)
    found = feed(backend, 2)
    for uid in (1, 2):
        assert_same(found[uid], expected(reference, uid))


def test_other_work_between_the_slices_of_an_encoding(
    backend: TranscriptionBackend, reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slices, "SLICE_SECONDS", 0)
    windows = encode(backend, [random_mel(0), random_mel(1)])
    insert(backend, [1], windows)
    steps = backend.encode_steps([random_mel(1)])
    assert next(steps) is None
    found = backend.step()
    assert_same(found[1], expected(reference, 1))
    backend.extend(1, 20)
    *_, later = steps
    assert later is not None
    backend.insert(2, later[0], PROMPTS[2][1])
    found = feed(backend, 2)
    assert_same(found[1], expected(reference, 1, [20]))
    assert_same(found[2], expected(reference, 2))


def test_an_encoding_that_is_given_up(backend: TranscriptionBackend, reference: Reference) -> None:
    steps = backend.encode_steps([random_mel(1)])
    next(steps)
    steps.close()  # type: ignore[attr-defined]
    insert(backend, [1], [window_of(backend)])
    assert_same(feed(backend, 1)[1], expected(reference, 1))


def test_rows_that_leave_leave_no_memory_behind(backend: TranscriptionBackend) -> None:
    window, process = window_of(backend), psutil.Process()

    def come_and_go(times: int) -> int:
        for _ in range(times):
            for uid in range(5):
                backend.insert(uid, window, [260, 5])
            feed(backend, 5)
            backend.remove(range(5))
        return int(process.memory_info().rss)

    before = come_and_go(20)
    gc.disable()
    try:
        assert come_and_go(100) - before < 20_000_000
    finally:
        gc.enable()


def test_what_it_says_about_itself(backend: TranscriptionBackend, folder: Path) -> None:
    shape = backend.shape
    assert (shape.mels, shape.audio_context, shape.text_context) == (80, MOMENTS, 448)
    assert (shape.layers, shape.heads, shape.frames) == (2, 4, 2 * MOMENTS)
    assert shape.alignment_heads == ALIGNMENT_HEADS
    assert shape.vocab_size == json.loads((folder / "config.json").read_text())["vocab_size"]
    assert backend.facts.dtype == "float32"
    stored = checkpoint.read(folder).weight_bytes
    assert backend.facts.memory_bytes == stored
    assert checkpoint.read(folder).kind == "stt"


@pytest.mark.parametrize("packed", [False, True])
def test_mlx_whispers_layout(
    folder: Path, reference: Reference, backend_name: Backend, tmp_path: Path, packed: bool
) -> None:
    converted = tiny.as_mlx_whisper(folder, tmp_path / "converted", packed=packed)
    found = checkpoint.read(converted)
    assert (found.kind, found.dtype) == ("stt", "float32")
    backend = load(backend_name, converted)
    assert backend.shape.alignment_heads == ALIGNMENT_HEADS
    insert(backend, [1], [window_of(backend)])
    assert_same(feed(backend, 1)[1], expected(reference, 1))


def _openai_names_torch_axes(folder: Path) -> None:
    """As tools write it that rename tensors and leave the numbers alone."""
    own = load_file(folder / "weights.safetensors")
    for name, tensor in own.items():
        if ".conv" in name and tensor.ndim == 3:
            own[name] = tensor.transpose(1, 2).contiguous()
    save_file(own, folder / "weights.safetensors")


def test_layouts_that_are_mixed(
    folder: Path, reference: Reference, backend_name: Backend, tmp_path: Path
) -> None:
    mixed = tiny.as_mlx_whisper(folder, tmp_path / "mixed")
    _openai_names_torch_axes(mixed)
    for name in ("config.json", "generation_config.json"):
        shutil.copy(folder / name, mixed / name)
    backend = load(backend_name, mixed)
    insert(backend, [1], [window_of(backend)])
    assert_same(feed(backend, 1)[1], expected(reference, 1))


def test_shards(copy: Path, reference: Reference, backend_name: Backend) -> None:
    shard(copy)
    backend = load(backend_name, copy)
    insert(backend, [1], [window_of(backend)])
    assert_same(feed(backend, 1)[1], expected(reference, 1))


def test_half_precision_on_disk(copy: Path, backend_name: Backend) -> None:
    edit_weights(copy, lambda own: {name: tensor.half() for name, tensor in own.items()})
    backend = load(backend_name, copy)
    assert backend.facts.dtype == "float32"
    insert(backend, [1], [window_of(backend)])
    assert_same(feed(backend, 1)[1], expected(Reference(copy), 1))


@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        ({"mels": 128, "layers": (3, 1), "languages": 100}, (128, 1907, 1)),
        ({"languages": None}, (80, 1906, 2)),
    ],
    ids=["turbo", "english"],
)
def test_other_sizes(
    backend_name: Backend, tmp_path: Path, options: Mapping[str, Any], sizes: tuple[int, int, int]
) -> None:
    folder = tiny.build(tmp_path / "other", audio_context=MOMENTS, **options)
    edit(folder / "generation_config.json", {"alignment_heads": [[0, 1], [0, 2]]})
    backend = load(backend_name, folder)
    shape = backend.shape
    assert (shape.mels, shape.vocab_size, shape.layers) == sizes
    mel = random_mel(0, mels=sizes[0])
    backend.insert(1, encode(backend, [mel])[0], [260, 5])
    assert_same(backend.step()[1], Reference(folder).logits(mel, [260, 5])[-1])
    assert backend.align(encode(backend, [mel])[0], [260]).shape == (2, 1, MOMENTS)


@pytest.mark.parametrize("heads", [None, [], [[0, 4]], [[2, 0]], "all", [[0, 1, 1]], [[True, 0]]])
def test_alignment_heads_that_are_not_there(
    copy: Path, backend_name: Backend, heads: object
) -> None:
    edit(copy / "generation_config.json", {"alignment_heads": heads})
    backend = load(backend_name, copy)
    assert backend.shape.alignment_heads == tuple((1, head) for head in range(4))


@pytest.mark.parametrize("bits", [4, 8])
def test_quantised_for_mlx(folder: Path, tmp_path: Path, bits: int) -> None:
    converted = tiny.as_mlx_whisper(folder, tmp_path / "converted")
    rounded = tiny.quantize_for_mlx(converted, bits=bits)
    found = []
    for name, place in (("mlx", converted), ("torch", rounded)):
        backend = load(name, place)  # type: ignore[arg-type]
        insert(backend, [4], [window_of(backend)])
        found.append(feed(backend, 1)[4])
    assert_same(*found)
    with pytest.raises(LoadError, match="--backend mlx"):
        load("torch", converted)


def without(name: str) -> Callable[[Tensors], Tensors]:
    return lambda own: {key: tensor for key, tensor in own.items() if name not in key}


def reshaped(own: Tensors) -> Tensors:
    name = "model.decoder.layers.0.fc1.weight"
    return own | {name: own[name][:-1].clone()}


def deeper(own: Tensors) -> Tensors:
    found = {k.replace("layers.1", "layers.2"): t for k, t in own.items() if "layers.1" in k}
    return own | {name: tensor.clone() for name, tensor in found.items()}


@pytest.mark.parametrize(
    "change",
    [
        without("decoder.layers.1.encoder_attn.k_proj"),
        without("encoder.conv1.bias"),
        without("embed_tokens"),
        without("decoder.embed_positions"),
        reshaped,
        deeper,
    ],
)
def test_tensors_that_do_not_fit(
    copy: Path, backend_name: Backend, change: Callable[[Tensors], Tensors]
) -> None:
    edit_weights(copy, change)
    with pytest.raises(LoadError, match="can't load changed"):
        load(backend_name, copy)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"d_model": None}, "d_model is None"),
        ({"decoder_layers": -1}, "decoder_layers is -1"),
        ({"vocab_size": "51865"}, "vocab_size is '51865'"),
        ({"decoder_attention_heads": 7}, "can't be shared"),
        ({"activation_function": "relu"}, "relu, not gelu"),
        ({"d_model": 128}, "can't load changed"),
    ],
)
def test_configurations_that_do_not_fit(
    copy: Path, backend_name: Backend, config: Mapping[str, Any], message: str
) -> None:
    edit(copy / "config.json", config)
    with pytest.raises(LoadError, match=message):
        load(backend_name, copy)


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 no archive", "cut"])
def test_a_damaged_archive(folder: Path, tmp_path: Path, damage: bytes | str) -> None:
    file = tiny.as_mlx_whisper(folder, tmp_path / "c", packed=True) / "weights.npz"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if isinstance(damage, str) else damage)
    with pytest.raises(LoadError, match="not a valid npz"):
        checkpoint.read(file.parent)


def test_an_archive_of_pickles(folder: Path, tmp_path: Path) -> None:
    file = tiny.as_mlx_whisper(folder, tmp_path / "c", packed=True) / "weights.npz"
    np.savez(file, weight=np.array([{}], dtype=object))
    with pytest.raises(LoadError, match="pickled"):
        checkpoint.read(file.parent)
