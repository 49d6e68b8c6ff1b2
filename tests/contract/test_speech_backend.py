"""What every model that speaks must do, and each family as its library does it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mlxsrv.backends import builtin, checkpoint, espeak_library, hubcache
from mlxsrv.backends.base import SpeechBackend
from mlxsrv.backends.load import finished, load_speech
from mlxsrv.backends.select import Backend
from mlxsrv.core.errors import ContextLengthExceeded, InvalidRequest, LoadError
from mlxsrv.core.kinds import Kind
from mlxsrv.core.speech import FRAMES_PER_SECOND, Utterance
from tests import tiny_speech as tiny

Floats = NDArray[np.float32]
Load = Callable[[str, Backend], SpeechBackend]

needs_espeak = pytest.mark.skipif(
    find_spec("espeakng_loader") is None, reason="espeak-ng is not installed"
)
FAMILIES = [
    pytest.param(("espeak", "torch"), marks=needs_espeak, id="espeak"),
    pytest.param(("vits", "torch"), id="vits-torch"),
    pytest.param(("vibevoice", "torch"), id="vibevoice-torch"),
    pytest.param(("vibevoice", "mlx"), id="vibevoice-mlx"),
    pytest.param(("realtime", "mlx"), id="realtime-mlx"),
    pytest.param(("kokoro", "mlx"), marks=[needs_espeak, pytest.mark.slow], id="kokoro-mlx"),
]
TEXT = "Hi you."

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("mlx_thread")]


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a checkpoint of a family, built once; not to be changed."""
    root = tmp_path_factory.mktemp("speech")
    build: dict[str, Callable[[Path], Path]] = {
        "vits": tiny.build_vits,
        "vibevoice": tiny.build_vibevoice,
        "realtime": tiny.build_realtime,
        "kokoro": tiny.build_kokoro,
    }

    def folder(family: str) -> Path:
        path = builtin.builtin_folder(family) or root / family
        return path if path.exists() else build[family](path)

    return folder


@pytest.fixture(scope="module")
def load(folder_of: Callable[[str], Path]) -> Load:
    """Loads the checkpoint of a family, once for each backend."""
    loaded: dict[tuple[str, Backend], SpeechBackend] = {}

    def get(family: str, backend: Backend) -> SpeechBackend:
        key = family, backend
        if key not in loaded:
            loaded[key] = load_folder(backend, folder_of(family))
        return loaded[key]

    return get


@pytest.fixture(params=FAMILIES)
def speaker(request: pytest.FixtureRequest, load: Load) -> SpeechBackend:
    return load(*request.param)


def load_folder(backend: Backend, folder: Path) -> SpeechBackend:
    return finished(load_speech(backend, checkpoint.read(folder)))


def utterance(speaker: SpeechBackend, text: str = TEXT, **fields: Any) -> Utterance:
    """Short enough for every family."""
    return replace(Utterance(text, speaker.default_voice, max_frames=6), **fields)


def sound(speaker: SpeechBackend, wanted: Utterance) -> Floats:
    return np.concatenate([np.zeros(0, np.float32), *speaker.synthesize(wanted)])


def same(one: Floats, other: Floats) -> bool:
    return np.array_equal(one, other)


def test_it_speaks(speaker: SpeechBackend) -> None:
    made = sound(speaker, utterance(speaker))
    assert made.dtype == np.float32
    assert made.ndim == 1
    assert 0.02 < len(made) / speaker.sample_rate <= 6 / FRAMES_PER_SECOND + 1e-3
    assert np.abs(made).max() <= 1
    assert made.std() > 1e-4
    assert speaker.default_voice in {voice.id for voice in speaker.voices}
    assert all(voice.language for voice in speaker.voices)
    assert speaker.facts.memory_bytes > 0


def test_the_same_utterance_is_the_same_sound_whatever_is_spoken_beside_it(
    speaker: SpeechBackend,
) -> None:
    wanted = utterance(speaker)
    alone = sound(speaker, wanted)
    both = zip_longest(
        speaker.synthesize(wanted), speaker.synthesize(utterance(speaker, "Or not?", seed=9))
    )
    beside = [first for first, _ in both if first is not None]
    assert same(np.concatenate(beside), alone)


def test_max_frames_bound_it(speaker: SpeechBackend) -> None:
    long = utterance(speaker, "one two three", max_frames=None)
    whole = sound(speaker, replace(long, max_frames=40, speed=0.5))
    cut = sound(speaker, replace(long, max_frames=1, speed=0.5))
    assert len(whole) > len(cut) == round(speaker.sample_rate / FRAMES_PER_SECOND)
    assert same(whole[: len(cut)], cut)


def test_an_unknown_voice_is_refused(speaker: SpeechBackend) -> None:
    if speaker.clones:
        pytest.skip("has one voice, and any other")
    with pytest.raises(InvalidRequest) as refusal:
        sound(speaker, utterance(speaker, voice="../../etc/passwd"))
    assert refusal.value.param == "voice"


def test_it_can_be_left_half_way(speaker: SpeechBackend) -> None:
    wanted = utterance(speaker)
    begun = speaker.synthesize(wanted)
    next(begun)
    assert isinstance(begun, Iterator)
    getattr(begun, "close")()  # noqa: B009
    assert len(sound(speaker, wanted))


# espeak-ng


@pytest.fixture
def espeak(load: Load) -> SpeechBackend:
    pytest.importorskip("espeakng_loader")
    return load("espeak", "torch")


def seconds(speaker: SpeechBackend, text: str, **fields: Any) -> float:
    return len(sound(speaker, utterance(speaker, text, max_frames=None, **fields))) / 22_050


def test_espeak_is_a_model_like_any_other() -> None:
    pytest.importorskip("espeakng_loader")
    folder = builtin.builtin_folder("espeak")
    assert folder is not None
    found = checkpoint.read(folder)
    assert (found.kind, found.model_type) == (Kind.TTS, "espeak")
    assert found.weight_bytes > 100_000
    assert builtin.demo_set()["espeak"]["path"] == str(folder)
    assert builtin.builtin_folder("demo", "tts") == folder


def test_espeak_that_is_not_installed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builtin, "find_spec", lambda name: None)
    with pytest.raises(LoadError, match="pip install"):
        builtin.builtin_folder("espeak")
    assert "espeak" not in builtin.demo_set()
    assert builtin.builtin_folder("demo", "tts") is None


@pytest.mark.parametrize(
    "markup", ["<speak><break time='9s'/>yes</speak>", "[[h@l'oU]]", "\x019000p\x0120s yes"]
)
def test_espeak_reads_markup_and_commands_as_they_are_written(
    espeak: SpeechBackend, markup: str
) -> None:
    plain = utterance(espeak, markup.replace("\x01", " "), max_frames=None)
    assert same(sound(espeak, replace(plain, text=markup)), sound(espeak, plain))
    assert seconds(espeak, markup) < 9


@pytest.mark.parametrize("speed", [0.25, 0.5, 2.0, 4.0])
def test_espeak_speaks_at_any_speed(espeak: SpeechBackend, speed: float) -> None:
    text = "The quick brown fox jumps over the lazy dog near the river"
    assert seconds(espeak, text, speed=speed) * speed == pytest.approx(
        seconds(espeak, text), rel=0.3
    )


@pytest.mark.parametrize(
    "text",
    [
        "word " * 300,
        "你好世界" * 50,
        "1" * 200,
        "😀" * 40,
        "a\ud800b\x00c",
        "\U000545fa-\u092f\u0928",
        "x" * 900,
    ],
)
def test_espeak_speaks_all_of_any_text_in_short_slices(espeak: SpeechBackend, text: str) -> None:
    blocks = list(espeak.synthesize(utterance(espeak, text, max_frames=None)))
    assert sum(map(len, blocks)) > 22_050 / 4
    assert max(map(len, blocks)) < 70 * 22_050


def test_espeak_has_the_voices_of_many_languages(espeak: SpeechBackend) -> None:
    ids = [voice.id for voice in espeak.voices]
    assert len(ids) == len(set(ids)) > 100
    spoken = {
        voice: sound(espeak, utterance(espeak, "hello", voice=voice)).tobytes()
        for voice in ("en-us", "en-gb", "fr-fr", "cmn", "en-us+f3", "de+f3", "de")
    }
    assert len(set(spoken.values())) == len(spoken)
    with pytest.raises(InvalidRequest):
        sound(espeak, utterance(espeak, voice="en-us+../../fo_dict"))


def test_espeak_survives_what_the_caller_leaves(espeak: SpeechBackend) -> None:
    with pytest.raises(InvalidRequest):
        espeak_library.speak("hi", "nowhere/xx", words_per_minute=175)
    assert seconds(espeak, "still here") > 0.3


# VITS


def test_vits_gives_the_sound_that_transformers_gives(load: Load, folder_of: Any) -> None:
    import torch
    from transformers import VitsModel, VitsTokenizer

    speaker = load("vits", "torch")
    text = "hello world this is a test of a sentence that is longer than a window"
    made = sound(speaker, utterance(speaker, text, seed=7, max_frames=None, voice="speaker-1"))
    model = VitsModel.from_pretrained(folder_of("vits")).eval()
    tokenizer = VitsTokenizer.from_pretrained(folder_of("vits"))
    torch.manual_seed(7)
    with torch.no_grad():
        expected = model(**tokenizer(text, return_tensors="pt"), speaker_id=1).waveform[0].numpy()
    assert len(expected) > 3 * 64 * 256
    assert made.shape == expected.shape
    np.testing.assert_allclose(made, expected, atol=1e-3)


def test_vits_heeds_seed_voice_and_speed(load: Load) -> None:
    speaker = load("vits", "torch")
    wanted = utterance(speaker, "hello world", max_frames=None)
    made = sound(speaker, wanted)
    assert not same(made, sound(speaker, replace(wanted, seed=1)))
    assert not same(made, sound(speaker, replace(wanted, voice="speaker-1")))
    slow = sound(speaker, replace(wanted, speed=0.25))
    assert len(slow) > 2 * len(made)


def test_vits_leaves_the_generator_of_others_alone(load: Load) -> None:
    import torch

    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    speaker = load("vits", "torch")
    sound(speaker, utterance(speaker))
    assert torch.rand(1) == expected


def test_vits_refuses_what_it_has_no_letters_for(load: Load, tmp_path: Path) -> None:
    speaker = load("vits", "torch")
    with pytest.raises(InvalidRequest) as refusal:
        sound(speaker, utterance(speaker, "你好！"))
    assert refusal.value.param == "input"
    latin = load_folder("torch", tiny.build_vits(tmp_path / "latin", speakers=1, uroman=True))
    assert [voice.id for voice in latin.voices] == ["default"]
    with pytest.raises(InvalidRequest, match="uroman"):
        sound(latin, utterance(latin, "привет"))
    assert len(sound(latin, utterance(latin, "privet")))


# VibeVoice


@pytest.fixture(params=["torch", "mlx"])
def cloner(request: pytest.FixtureRequest, load: Load) -> SpeechBackend:
    return load("vibevoice", request.param)


def recording(length: float = 0.8) -> Floats:
    """A hum, whole frames of it."""
    at = np.arange(round(length * FRAMES_PER_SECOND) * 3200) / 24_000
    found: Floats = (0.2 * np.sin(600 * at) + 0.1 * np.sin(1700 * at)).astype(np.float32)
    return found


@pytest.mark.parametrize("layout", ["transformers", "mlx"])
def test_vibevoice_reads_every_layout(
    cloner: SpeechBackend, layout: tiny.Layout, tmp_path: Path
) -> None:
    folder = tiny.build_vibevoice(tmp_path / layout, layout=layout)
    other = load_folder(cloner.facts.backend, folder)
    wanted = utterance(cloner, max_frames=3, reference=recording())
    np.testing.assert_allclose(sound(other, wanted), sound(cloner, wanted), atol=1e-5)
    assert other.facts == cloner.facts


def test_vibevoice_reads_an_output_layer_that_is_tied_to_the_embeddings(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tiny.build_vibevoice(tmp_path / "tied")
    tensors = load_file(folder / "model.safetensors")
    del tensors["lm_head.weight"]
    # The token that means speech is the likeliest where no other has a first number like it.
    tensors["model.language_model.embed_tokens.weight"][:256, 0] = 0
    tensors["model.language_model.embed_tokens.weight"][259, 0] = 20
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config["decoder_config"]["tie_word_embeddings"] = True
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    torch, mlx = load_folder("torch", folder), load_folder("mlx", folder)
    wanted = utterance(torch, max_frames=2)
    assert len(sound(torch, wanted)) == 6400
    np.testing.assert_allclose(sound(torch, wanted), sound(mlx, wanted), atol=1e-4)


def test_vibevoice_reads_quantised_weights_on_mlx_alone(load: Load, tmp_path: Path) -> None:
    import mlx.core as mx
    import mlx.nn as nn
    from mlx.utils import tree_flatten

    from mlxsrv.backends.mlx.vibevoice import Networks
    from mlxsrv.backends.vibevoice_files import read_sizes

    folder = tiny.build_vibevoice(tmp_path / "quantised", layout="mlx")
    networks = Networks(read_sizes(folder))
    networks.load_weights(str(folder / "model.safetensors"))
    nn.quantize(networks.language_model, group_size=32, bits=8)
    mx.save_safetensors(
        str(folder / "model.safetensors"), dict(tree_flatten(networks.parameters()))
    )
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config["quantization"] = {"group_size": 32, "bits": 8}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    packed, whole = load_folder("mlx", folder), load("vibevoice", "mlx")
    assert packed.facts.memory_bytes < whole.facts.memory_bytes
    made = sound(packed, utterance(packed, max_frames=2))
    np.testing.assert_allclose(made, sound(whole, utterance(whole, max_frames=2)), atol=0.2)
    with pytest.raises(LoadError, match="mlx"):
        load_folder("torch", folder)


def test_vibevoice_is_the_same_on_both_backends(load: Load) -> None:
    torch, mlx = load("vibevoice", "torch"), load("vibevoice", "mlx")
    wanted = utterance(torch, reference=recording(), seed=3)
    np.testing.assert_allclose(sound(torch, wanted), sound(mlx, wanted), atol=1e-4)


@pytest.mark.parametrize(
    ("family", "cloned"), [("vibevoice", False), ("vibevoice", True), ("realtime", False)]
)
def test_vibevoice_gives_the_sound_that_mlx_audio_gives(
    load: Load, folder_of: Any, family: str, cloned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    speaker = load(family, "mlx")
    wanted = utterance(speaker, "how are you", max_frames=8, seed=4, cfg_scale=2.0)
    wanted = replace(wanted, diffusion_steps=5, reference=recording() if cloned else None)
    expected = mlx_audio_sound(folder_of(family), wanted, monkeypatch)
    assert np.abs(expected).max() < 1
    loudest = np.abs(expected).max()
    np.testing.assert_allclose(sound(speaker, wanted), expected, atol=1e-3 * loudest)


def speaks_to_clone(config: dict[str, Any]) -> bool:
    return bool(config["model_type"] == "vibevoice")


def mlx_audio_sound(folder: Path, wanted: Utterance, monkeypatch: pytest.MonkeyPatch) -> Floats:
    """What the library's own loop makes of the same noise."""
    import mlx.core as mx
    from mlx_audio.tts.models.vibevoice.config import ModelConfig
    from mlx_audio.tts.models.vibevoice.vibevoice import Model
    from transformers import PreTrainedTokenizerFast

    config = json.loads((folder / "config.json").read_text("utf-8"))
    model = Model(ModelConfig.from_dict({**config, "model_path": str(folder)}))
    weights = model.sanitize(mx.load(str(folder / "model.safetensors")))
    model.load_weights(list(weights.items()))
    model.tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    draw = np.random.default_rng(wanted.seed)

    def noise(shape: tuple[int, ...], **_: Any) -> Any:
        scalar = shape == (1,)
        found = draw.standard_normal() if scalar else draw.standard_normal(shape, dtype=np.float32)
        return mx.array(found, dtype=mx.float32).reshape(shape)

    monkeypatch.setattr(mx.random, "normal", noise)
    made = model.generate(
        wanted.text,
        max_tokens=wanted.max_frames,
        cfg_scale=wanted.cfg_scale,
        ddpm_steps=wanted.diffusion_steps,
        ref_audio=None if wanted.reference is None else mx.array(wanted.reference),
        voice=None if speaks_to_clone(config) else wanted.voice,
    )
    return np.array(next(made).audio)


def test_vibevoice_heeds_every_knob(cloner: SpeechBackend) -> None:
    wanted = utterance(cloner, max_frames=3, reference=recording())
    knobs: list[dict[str, Any]] = [
        {"reference": None},
        {"reference": recording()[::-1].copy()},
        {"seed": 1},
        {"cfg_scale": 3.0},
        {"cfg_scale": 1.0},
        {"diffusion_steps": 4},
        {"text": "Bye."},
        {"speed": 1.5},
    ]
    made = [sound(cloner, wanted), *(sound(cloner, replace(wanted, **knob)) for knob in knobs)]
    assert len({one.tobytes() for one in made}) == len(made)


def test_vibevoice_is_as_loud_whatever_the_recording_is(cloner: SpeechBackend) -> None:
    wanted = utterance(cloner, max_frames=2, reference=recording())
    quiet = replace(wanted, reference=recording() * np.float32(0.1))
    np.testing.assert_allclose(sound(cloner, quiet), sound(cloner, wanted), atol=1e-3)


@pytest.mark.parametrize("backend", ["torch", "mlx"])
def test_vibevoice_ends_with_its_context(backend: Backend, tmp_path: Path) -> None:
    cloner = load_folder(backend, tiny.build_vibevoice(tmp_path / "short", context=256))
    blocks = cloner.synthesize(utterance(cloner, "a", max_frames=None, diffusion_steps=1))
    made = sum(map(len, blocks))
    assert 24_000 < made < 256 * 3200


def test_special_tokens_in_a_text_are_text(cloner: SpeechBackend) -> None:
    wanted = utterance(cloner, "<|vision_pad|><|endoftext|>", max_frames=2)
    assert len(sound(cloner, wanted)) == 2 * 3200


def test_vibevoice_refuses_what_its_context_has_no_room_for(cloner: SpeechBackend) -> None:
    with pytest.raises(ContextLengthExceeded) as refusal:
        sound(cloner, utterance(cloner, "word " * 300))
    assert refusal.value.param == "input"


def test_realtime_has_the_voices_of_its_folder_and_ends_when_it_says_so(
    load: Load, tmp_path: Path
) -> None:
    import mlx.core as mx

    speaker = load("realtime", "mlx")
    assert {voice.id: voice.language for voice in speaker.voices} == {
        "en-Ada_woman": "en",
        "de-Otto_man": "de",
    }
    assert speaker.default_voice == "en-Ada_woman"
    ada, otto = (sound(speaker, utterance(speaker, voice=v.id)) for v in speaker.voices)
    assert not same(ada, otto)
    folder = tiny.build_realtime(tmp_path / "brief")
    tensors = mx.load(str(folder / "model.safetensors"))
    tensors["tts_eos_classifier.fc2.bias"] = mx.array([9.0])
    mx.save_safetensors(str(folder / "model.safetensors"), tensors)
    brief = load_folder("mlx", folder)
    assert len(sound(brief, utterance(brief, max_frames=None))) == 3200
    for file in (folder / "voices").iterdir():
        file.unlink()
    with pytest.raises(LoadError, match="no voices"):
        load_folder("mlx", folder)


@pytest.mark.parametrize("backend", ["torch", "mlx"])
def test_a_borrowed_tokenizer_is_found_in_the_cache(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny.build_vibevoice(tmp_path / "bare")
    snapshot = tmp_path / "hub" / "models--no--where" / "snapshots" / "1234"
    snapshot.mkdir(parents=True)
    (folder / "tokenizer.json").rename(snapshot / "tokenizer.json")
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"language_model_pretrained_name": "no/where"}), "utf-8"
    )
    monkeypatch.setattr(hubcache, "cache_folder", lambda: tmp_path / "hub")
    assert load_folder(backend, folder).clones


@pytest.mark.parametrize("backend", ["torch", "mlx"])
def test_vibevoice_without_a_tokenizer_says_where_to_get_it(
    backend: Backend, tmp_path: Path
) -> None:
    folder = tiny.build_vibevoice(tmp_path / "bare")
    (folder / "tokenizer.json").rename(tmp_path / "tokenizer.json")
    named = folder / "preprocessor_config.json"
    named.write_text(json.dumps({"language_model_pretrained_name": "no/where"}), "utf-8")
    with pytest.raises(LoadError, match="hf download no/where"):
        load_folder(backend, folder)
    named.write_text(json.dumps({"language_model_pretrained_name": str(tmp_path)}), "utf-8")
    assert load_folder(backend, folder).clones


@pytest.mark.parametrize("backend", ["torch", "mlx"])
def test_a_damaged_checkpoint_is_a_load_error(backend: Backend, tmp_path: Path) -> None:
    folder = tiny.build_vibevoice(tmp_path / "damaged")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config["decoder_config"]["hidden_size"] = 32
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(LoadError, match="damaged"):
        load_folder(backend, folder)
    del config["decoder_config"]["hidden_size"]
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(LoadError, match="hidden_size"):
        load_folder(backend, folder)


@pytest.mark.parametrize(("family", "backend"), [("vits", "mlx"), ("kokoro", "torch")])
def test_a_family_that_a_backend_lacks_is_named(
    family: str, backend: Backend, tmp_path: Path
) -> None:
    folder = tiny.build_vits(tmp_path / "vits")
    if family == "kokoro":
        config = {"model_type": "kokoro"}
        (folder / "config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(LoadError, match=family):
        load_folder(backend, folder)


# Kokoro


@needs_espeak
@pytest.mark.slow
def test_kokoro_gives_the_sound_that_mlx_audio_gives(load: Load, folder_of: Any) -> None:
    import mlx.core as mx
    from mlx_audio.tts.models.kokoro.kokoro import Model, ModelConfig

    speaker = load("kokoro", "mlx")
    made = sound(speaker, utterance(speaker, "Hi.", seed=3, max_frames=None))
    folder = folder_of("kokoro")
    model = Model(ModelConfig.from_dict(json.loads((folder / "config.json").read_text("utf-8"))))
    model.load_weights(list(mx.load(str(folder / "kokoro.safetensors")).items()))
    model.eval()
    letters = "hˈI."
    style = mx.load(str(folder / "voices" / "af_test.safetensors"))["voice"][len(letters) - 1]
    mx.random.seed(3)
    expected = np.array(model(letters, style, 1.0)).reshape(-1)
    assert made.shape == expected.shape
    np.testing.assert_allclose(made, np.clip(expected, -1, 1), atol=1e-4)


@needs_espeak
@pytest.mark.slow
def test_kokoro_speaks_with_the_voices_of_its_folder(load: Load, tmp_path: Path) -> None:
    speaker = load("kokoro", "mlx")
    assert [(voice.id, voice.language) for voice in speaker.voices] == [
        ("af_test", "en-us"),
        ("ef_test", "es"),
    ]
    english, spanish = (
        sound(speaker, utterance(speaker, "Si.", voice=v.id)) for v in speaker.voices
    )
    assert not same(english, spanish)
    silent = tiny.build_kokoro(tmp_path / "silent", voices=())
    with pytest.raises(LoadError, match="no voices"):
        load_folder("mlx", silent)
