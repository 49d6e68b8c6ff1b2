"""Speech as the real clients hear it, on both backends."""

from __future__ import annotations

import base64
import io
import json
import socket
import threading
import time
import wave
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from mlxsrv.config.settings import ModelSettings
from mlxsrv.media.audio_decode import read_voice
from tests import tiny_speech
from tests.api.conftest import Servers
from tests.api.serving import Server, serving

pytestmark = pytest.mark.slow

pytest.importorskip("espeakng_loader")
soundfile = pytest.importorskip("soundfile")

PATH = "/v1/audio/speech"
TEXT = "Hello world, this is a test of the speech."
LONG = "The quick brown fox jumps over the lazy dog, and then it goes home. " * 40
RATE = 22_050
FORMATS = {
    "wav": "audio/wav",
    "mp3": "audio/mpeg",
    "opus": "audio/ogg; codecs=opus",
    "aac": "audio/aac",
    "flac": "audio/flac",
}

Samples = NDArray[np.float32]


@pytest.fixture(scope="session")
def speech_servers() -> Iterator[Servers]:
    with ExitStack() as held:
        yield Servers(held, {"espeak": ModelSettings(path="espeak")})


@pytest.fixture(params=["mlx", "torch"])
def server(request: pytest.FixtureRequest, speech_servers: Servers) -> Server:
    return speech_servers.on(request.param)


@pytest.fixture
def one_server(speech_servers: Servers) -> Server:
    """For what happens before a backend is asked."""
    return speech_servers.on("torch")


def say(server: Server, text: str = TEXT, **fields: Any) -> httpx.Response:
    response = server.post(PATH, {"input": text, **fields})
    assert response.status_code == 200, response.text
    return response


def samples(response: httpx.Response) -> Samples:
    """Of a raw answer."""
    assert response.headers["content-type"].endswith("encoding=f32le")
    return np.frombuffer(response.content, "<f4")


def heard(sound: bytes, rate: int = RATE) -> Samples:
    return read_voice(sound, rate=rate, max_seconds=600, param="file")


def events(text: str) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def wav(seconds: float, rate: int = 24_000, *, seed: int = 0) -> bytes:
    rng = np.random.default_rng(seed)
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes(rng.normal(0, 3000, int(seconds * rate)).astype("<i2").tobytes())
    return file.getvalue()


def test_every_format_holds_the_same_sound(server: Server) -> None:
    raw = samples(say(server, seed=1, response_format="pcm"))
    assert 2 * RATE < len(raw) < 5 * RATE
    for form, media_type in FORMATS.items():
        response = say(server, seed=1, response_format=form)
        assert response.headers["content-type"] == media_type
        found = heard(response.content)
        assert abs(len(found) - len(raw)) < RATE / 4, form
        assert np.abs(found).mean() == pytest.approx(np.abs(raw).mean(), rel=0.1)
        if form != "aac":
            with soundfile.SoundFile(io.BytesIO(response.content)) as file:
                expected = round(len(found) / RATE * file.samplerate) - file.samplerate // 10
                assert len(file.read(expected)) == expected, form
    plain = say(server, seed=1)
    assert plain.headers["content-type"] == "audio/wav"
    with wave.open(io.BytesIO(plain.content)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, RATE)
        whole = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768
    np.testing.assert_allclose(whole, raw, atol=1e-4)


def test_raw_samples_are_what_the_client_takes_them_for(server: Server) -> None:
    raw = samples(say(server, seed=1, response_format="pcm"))
    for accept in ("application/octet-stream", "text/plain;q=0.1, Application/Octet-Stream;q=1"):
        response = server.client.post(
            server.url + PATH,
            json={"input": TEXT, "seed": 1, "response_format": "pcm"},
            headers={"Accept": accept},
        )
        kind = f"audio/pcm; rate={RATE}; channels=1; encoding=s16le"
        assert response.headers["content-type"] == kind
        np.testing.assert_allclose(
            np.frombuffer(response.content, "<i2") / 32768, raw, atol=1 / 32768
        )
    assert say(server, response_format="pcm").headers["content-type"] == (
        f"audio/pcm; rate={RATE}; channels=1; encoding=f32le"
    )


def test_the_sdk_hears_every_format_while_it_is_made(server: Server, tmp_path: Path) -> None:
    with server.openai() as client:
        for form in (*FORMATS, "pcm"):
            asked: Any = {"model": "tts-1", "voice": "alloy", "response_format": form}
            make = client.audio.speech.with_streaming_response.create
            with make(input=TEXT, **asked) as response:
                response.stream_to_file(tmp_path / form)
            whole = client.audio.speech.create(input=TEXT, extra_body={"seed": 1}, **asked)
            sound = (tmp_path / form).read_bytes()
            if form == "pcm":
                assert len(sound) == pytest.approx(3 * RATE * 2, rel=0.5)
            else:
                assert len(heard(sound)) == pytest.approx(len(heard(whole.content)), rel=0.01)


def test_the_first_sound_comes_before_the_last_is_made(server: Server) -> None:
    meters = server.services.registry.speech_meters()[0]
    body = {"input": LONG, "response_format": "pcm"}
    with server.client.stream("POST", server.url + PATH, json=body) as response:
        before = meters.seconds
        blocks = response.iter_raw()
        received = len(next(blocks))
        assert received < 4 * RATE * 60
        received += sum(map(len, blocks))
        assert meters.seconds > before
    assert received / 4 / RATE > 120


def test_events_hold_the_sound_and_what_it_took(server: Server) -> None:
    plain = say(server, seed=1, response_format="mp3").content
    response = say(server, seed=1, response_format="mp3", stream_format="sse")
    assert response.headers["content-type"] == "text/event-stream"
    assert response.headers["x-voice"] == "en-us"
    found = events(response.text)
    assert {event["type"] for event in found[:-1]} == {"speech.audio.delta"}
    assert b"".join(base64.b64decode(event["audio"]) for event in found[:-1]) == plain
    frames = round(len(heard(plain)) / RATE * 7.5)
    usage = found[-1]["usage"]
    assert found[-1]["type"] == "speech.audio.done"
    assert usage["input_tokens"] == len(TEXT)
    assert abs(usage["output_tokens"] - frames) <= 1
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]


def test_the_answer_says_whose_voice_it_is(server: Server) -> None:
    listed = server.get("/v1/audio/voices").json()["voices"]
    assert {"id": "de", "language": "de", "model": "espeak"} in listed
    for wanted, spoke in (
        (None, "en-us"),
        ("de", "de"),
        ("DE", "de"),
        ({"id": "fr-fr"}, "fr-fr"),
        ("en-us+f3", "en-us+f3"),
        ("alloy", "en-us"),
        ("somebody else", "en-us"),
        ("", "en-us"),
    ):
        assert say(server, "Ja.", voice=wanted).headers["x-voice"] == spoke, wanted
    others = {
        say(server, "Ja.", voice=name).headers["x-voice"] for name in ("echo", "nova", "onyx")
    }
    assert len(others) == 3
    sounds = [say(server, seed=1, voice=name).content for name in ("alloy", "nova", "de")]
    assert len(set(sounds)) == 3


def test_speed_seed_and_frames_are_heeded(server: Server) -> None:
    def length(**fields: Any) -> int:
        return len(samples(say(server, response_format="pcm", **fields)))

    usual = length()
    assert length(speed=0.25) == pytest.approx(4 * usual, rel=0.2)
    assert length(speed=4) == pytest.approx(usual / 4, rel=0.3)
    assert length(max_frames=5) == 5 * RATE / 7.5
    assert length(text=LONG, max_frames=200) == 200 * RATE / 7.5
    assert say(server, seed=-7).content == say(server, seed=-7).content
    accepted = {"instructions": "Softly.", "cfg_scale": 2.0, "diffusion_steps": 5, "user": "me"}
    assert length(**accepted) == usual


@pytest.mark.parametrize(
    "text", ["🎉 Party 🎉", "日本語 und Deutsch и русский", "---", "\u200b", "a\u0000b", "<b>[[x]]"]
)
def test_any_text_makes_a_sound_file(server: Server, text: str) -> None:
    assert len(heard(say(server, text).content)) > RATE / 10


BAD: list[tuple[dict[str, Any], str]] = [
    ({}, "input"),
    ({"input": None}, "input"),
    ({"input": ["a"]}, "input"),
    ({"input": ""}, "input"),
    ({"input": " \n"}, "input"),
    ({"input": "x" * 10_001}, "input"),
    ({"input": "x", "speed": 0.2}, "speed"),
    ({"input": "x", "speed": 4.1}, "speed"),
    ({"input": "x", "speed": "fast"}, "speed"),
    ({"input": "x", "cfg_scale": 0.9}, "cfg_scale"),
    ({"input": "x", "cfg_scale": 3.1}, "cfg_scale"),
    ({"input": "x", "max_frames": 0}, "max_frames"),
    ({"input": "x", "max_frames": 1.5}, "max_frames"),
    ({"input": "x", "diffusion_steps": 0}, "diffusion_steps"),
    ({"input": "x", "seed": 2**64}, "seed"),
    ({"input": "x", "response_format": "ogg"}, "response_format"),
    ({"input": "x", "stream_format": "json"}, "stream_format"),
    ({"input": "x", "instructions": 3}, "instructions"),
    ({"input": "x", "voice": 3}, "voice"),
    ({"input": "x", "voice": {"name": "nova"}}, "voice"),
    ({"input": "x", "voice_data": "not base64!"}, "voice_data"),
    ({"input": "x", "voice_data": base64.b64encode(b"This is text.").decode()}, "voice_data"),
    ({"input": "x", "voice_data": ""}, "voice_data"),
    ({"input": "x", "voice_data": base64.b64encode(wav(61)).decode()}, "voice_data"),
    ({"input": "x", "voice_path": "voice.wav"}, "voice_path"),
    ({"input": "x", "voice_data": "", "voice_path": "a.wav"}, "voice_path"),
]


@pytest.mark.parametrize(("body", "param"), BAD)
def test_bad_fields_are_named(one_server: Server, body: dict[str, Any], param: str) -> None:
    for model in (None, "espeak", "there/is-none"):
        response = one_server.post(PATH, {"model": model, **body})
        assert response.status_code == 400, response.text
        assert response.json()["error"]["param"] == param


def test_a_model_with_its_own_voices_only_says_so(one_server: Server) -> None:
    body = {"input": "x", "voice_data": base64.b64encode(wav(2)).decode()}
    response = one_server.post(PATH, body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "voice_data")
    assert "can't speak with other voices" in response.json()["error"]["message"]


@pytest.fixture(scope="session")
def clones(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Models that clone: one with a voice of its own by configuration, and one without."""
    root = tmp_path_factory.mktemp("clones")
    folder = str(tiny_speech.build_vibevoice(root / "tiny", layout="transformers"))
    voices = root / "voices"
    (voices / "folder").mkdir(parents=True)
    (voices / "anna.wav").write_bytes(wav(1.5))
    (root / "outside.wav").write_bytes(wav(1.5, seed=2))
    (voices / "link.wav").symlink_to(root / "outside.wav")
    (voices / "inner.wav").symlink_to(voices / "anna.wav")
    (voices / "text.wav").write_text("This is text.")
    models = {
        "clone": ModelSettings(path=folder),
        "anna": ModelSettings(path=folder, voice_prompt=voices / "anna.wav"),
    }
    with ExitStack() as held:
        yield Servers(held, models, voices_dir=voices)


@pytest.fixture(params=["mlx", "torch"])
def cloner(request: pytest.FixtureRequest, clones: Servers) -> Server:
    return clones.on(request.param)


def clone(server: Server, **fields: Any) -> httpx.Response:
    wanted = {"model": "clone", "seed": 1, "max_frames": 5, "response_format": "pcm", **fields}
    return say(server, **wanted)


def test_a_voice_is_cloned_from_what_is_sent(cloner: Server) -> None:
    plain = clone(cloner)
    assert plain.headers["content-type"] == "audio/pcm; rate=24000; channels=1; encoding=f32le"
    assert plain.headers["x-voice"] == "default"
    assert len(samples(plain)) == 5 * 3200
    voice = base64.b64encode(wav(1.5)).decode()
    first = clone(cloner, voice_data=voice)
    assert first.headers["x-voice"] == "cloned"
    assert clone(cloner, voice_data=f"data:audio/wav;base64,{voice}").content == first.content
    other = base64.b64encode(wav(1.5, seed=2)).decode()
    changed: list[dict[str, Any]] = [
        {"voice_data": other},
        {"cfg_scale": 3.0},
        {"diffusion_steps": 3},
        {"seed": 2},
    ]
    sounds = {clone(cloner, **{"voice_data": voice, **fields}).content for fields in changed}
    assert len({first.content, plain.content, *sounds}) == 6
    model = cloner.get("/v1/models/clone").json()
    assert (model["type"], model["sample_rate"], model["cloning"]) == ("tts", 24_000, True)


def test_a_voice_is_read_from_the_folder_for_voices_only(cloner: Server) -> None:
    folder = cloner.services.settings.api.voices_dir
    assert folder is not None
    sent = clone(cloner, voice_data=base64.b64encode(wav(1.5)).decode())
    for path in ("anna.wav", str(folder / "anna.wav"), "folder/../anna.wav", "inner.wav"):
        assert clone(cloner, voice_path=path).content == sent.content
    for path in (
        "../outside.wav",
        str(folder.parent / "outside.wav"),
        "link.wav",
        "gone.wav",
        "folder",
        "",
        "text.wav",
        "/dev/zero",
        "~/anna.wav",
        "a\0b",
        "x" * 5000,
    ):
        response = cloner.post(PATH, {"model": "clone", "input": "x", "voice_path": path})
        assert response.status_code == 400, path
        error = response.json()["error"]
        assert error["param"] == "voice_path"
        assert str(folder) not in error["message"]


def test_a_configured_voice_speaks_unless_another_is_sent(cloner: Server) -> None:
    sent = clone(cloner, voice_data=base64.b64encode(wav(1.5)).decode())
    own = clone(cloner, model="anna", voice="alloy")
    assert own.headers["x-voice"] == "voice_prompt"
    assert own.content == sent.content
    assert clone(cloner, model="anna", voice="default").headers["x-voice"] == "default"
    other = clone(cloner, model="anna", voice_data=base64.b64encode(wav(1.5, seed=2)).decode())
    assert other.headers["x-voice"] == "cloned"
    assert other.content != own.content


def test_a_voice_is_cloned_at_any_rate(cloner: Server) -> None:
    for rate in (8_000, 44_100):
        voice = base64.b64encode(wav(1.5, rate)).decode()
        assert len(samples(clone(cloner, voice_data=voice))) == 5 * 3200


def test_a_vits_model_speaks_with_the_voices_it_was_trained_on(tmp_path: Path) -> None:
    folder = tiny_speech.build_vits(tmp_path / "vits")
    with serving("torch", {"vits": ModelSettings(path=str(folder))}) as server:
        listed = server.get("/v1/audio/voices").json()["voices"]
        assert [voice["id"] for voice in listed] == ["speaker-0", "speaker-1"]
        sounds = {}
        for voice in ("speaker-0", "speaker-1"):
            response = say(server, seed=1, voice=voice, response_format="pcm")
            assert response.headers["x-voice"] == voice
            assert "rate=16000" in response.headers["content-type"]
            sounds[voice] = response.content
        assert len(set(sounds.values())) == 2
        assert len(heard(say(server, TEXT * 5, response_format="opus").content, 16_000)) > 16_000
        mixed = "日本語、日本語、日本語。 Hello there, this can be said. 🎉"
        assert len(heard(say(server, mixed).content, 16_000)) > 1000
        refused = server.post(PATH, {"input": "日本語 🎉"})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "input")


def test_voices_are_listed_once_a_model_was_loaded(tmp_path: Path) -> None:
    models = {name: ModelSettings(path="espeak", preload=False) for name in ("one", "two")}
    with serving("torch", models) as server:
        assert server.get("/v1/audio/voices").json() == {"voices": []}
        listed = server.get("/v1/audio/voices?model=one").json()["voices"]
        assert len(listed) > 50
        assert {voice["model"] for voice in listed} == {"one"}
        assert server.get("/v1/audio/voices").json()["voices"] == listed
        assert server.get("/v1/audio/voices?model=three").status_code == 404


def test_models_say_how_they_speak(one_server: Server) -> None:
    model = one_server.get("/v1/models/espeak").json()
    assert (model["type"], model["sample_rate"], model["cloning"]) == ("tts", RATE, False)


@pytest.mark.parametrize("form", ["wav", "sse"])
def test_a_client_that_leaves_is_forgotten(server: Server, form: str) -> None:
    fields = {"stream_format": "sse"} if form == "sse" else {"response_format": form}
    body = json.dumps({"input": LONG * 3, "speed": 0.25, **fields}).encode()
    head = f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(head.encode() + body)
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
        assert requests(server) == 1
        # It reads no further: the sound that waits for it is bounded.
        meters = server.services.registry.speech_meters()[0]
        wait_until(lambda: settled(lambda: meters.seconds))
        assert requests(server) == 1
    wait_until(lambda: requests(server) == 0)
    assert say(server).content


def settled(value: Any) -> bool:
    before = value()
    time.sleep(0.2)
    return bool(value() == before)


def requests(server: Server) -> int:
    """Requests for the model that have not ended."""
    return int(server.get("/v1/models/espeak").json()["requests"])


def test_many_speak_at_once(server: Server) -> None:
    texts = [f"This is text number {n}. It has two sentences, as all have." for n in range(6)]
    alone = [say(server, text, seed=1).content for text in texts]
    found: dict[int, bytes] = {}

    def speak(number: int) -> None:
        found[number] = say(server, texts[number], seed=1).content

    threads = [threading.Thread(target=speak, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[n] for n in range(6)] == alone


def test_what_fails_half_way_breaks_off(
    one_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlxsrv.backends.espeak import EspeakBackend

    synthesize = EspeakBackend.synthesize

    def fails(self: Any, utterance: Any) -> Iterator[Samples]:
        if "bad" in utterance.text:
            raise RuntimeError("the device slipped")
        return synthesize(self, utterance)

    monkeypatch.setattr(EspeakBackend, "synthesize", fails)
    text = "This is the first sentence, which is good. But this one is bad."
    with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
        one_server.post(PATH, {"input": text})
    response = one_server.post(PATH, {"input": text, "stream_format": "sse"})
    *deltas, last = [json.loads(line[6:]) for line in response.text.split("\n\n") if line]
    assert deltas
    assert "while it spoke" in last["error"]["message"]
    assert "slipped" not in response.text
    response = one_server.post(PATH, {"input": "bad"})
    assert response.status_code == 500
    assert say(one_server).content


def test_without_a_model_it_says_so(tiny_folder: Path) -> None:
    models = {"chat": ModelSettings(path=str(tiny_folder))}
    with serving("torch", models, max_speech_chars=20) as server:
        missing = server.post(PATH, {"input": "x"})
        assert missing.status_code == 404
        assert missing.json()["error"]["message"] == "No audio model loaded"
        assert server.get("/v1/audio/voices").json() == {"voices": []}
        assert server.post(PATH, {"input": "x" * 21}).status_code == 400
