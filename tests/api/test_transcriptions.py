"""Transcription as the real clients see it, on both backends."""

from __future__ import annotations

import io
import json
import re
import socket
import struct
import threading
import time
import wave
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from mlxsrv.api.schemas.transcriptions import InferenceFields
from mlxsrv.config.settings import MemorySettings, ModelSettings
from tests import tiny_whisper
from tests.api.conftest import Servers
from tests.api.serving import Server, serving
from tests.media.sounds import chirp, write_coded
from tests.media.test_bounds import patched

pytestmark = pytest.mark.slow

PATH = "/v1/audio/transcriptions"
FORMATS = ("json", "text", "srt", "vtt", "verbose_json")
MOMENTS = 150
"""Of a window: three seconds, where Whisper's own have thirty."""


def wav(seconds: float, seed: int = 0, rate: int = 16_000) -> bytes:
    """Noise, which a random model writes something for."""
    rng = np.random.default_rng(seed)
    samples = rng.normal(0, 3000, int(seconds * rate)).astype("<i2")
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes(samples.tobytes())
    return file.getvalue()


@pytest.fixture(scope="session")
def whisper_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """tiny: a multilingual model; english: one that knows English only."""
    root = tmp_path_factory.mktemp("whispers")
    tiny_whisper.build(root / "tiny", audio_context=MOMENTS)
    tiny_whisper.build(root / "english", audio_context=MOMENTS, languages=None, seed=1)
    models = {name: ModelSettings(path=str(root / name)) for name in ("tiny", "english")}
    with ExitStack() as held:
        yield Servers(held, models)


@pytest.fixture(params=["mlx", "torch"])
def server(request: pytest.FixtureRequest, whisper_servers: Servers) -> Server:
    return whisper_servers.on(request.param)


@pytest.fixture
def one_server(whisper_servers: Servers) -> Server:
    """For what happens before a backend is asked."""
    return whisper_servers.on("torch")


def send(
    server: Server, path: str = PATH, *, sound: bytes | None = None, **fields: Any
) -> httpx.Response:
    fields = {"model": "tiny", **fields}
    form = {name.replace("_list", "[]"): value for name, value in fields.items() if value}
    sound = wav(3.5) if sound is None else sound
    return server.client.post(server.url + path, data=form, files={"file": ("a.wav", sound)})


def text(server: Server, path: str = PATH, **fields: Any) -> str:
    response = send(server, path, **fields)
    assert response.status_code == 200, response.text
    return str(response.json()["text"])


def events(response: httpx.Response) -> list[dict[str, Any]]:
    assert response.headers["content-type"] == "text/event-stream"
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def test_every_format_tells_the_same(server: Server) -> None:
    found = {form: send(server, response_format=form) for form in FORMATS}
    assert {response.status_code for response in found.values()} == {200}
    said = found["json"].json()["text"]
    assert said
    assert found["json"].json()["usage"] == {"type": "duration", "seconds": 4}
    assert found["text"].text == said + "\n"
    verbose = found["verbose_json"].json()
    assert verbose["text"] == said == "".join(s["text"] for s in verbose["segments"]).strip()
    assert (verbose["task"], verbose["duration"]) == ("transcribe", 3.5)
    assert "words" not in verbose
    arrows = [response.text.count(" --> ") for response in (found["srt"], found["vtt"])]
    assert arrows == [len(verbose["segments"])] * 2
    assert re.match(r"1\n\d\d:\d\d:\d\d,\d{3} --> \d\d:\d\d:\d\d,\d{3}\n", found["srt"].text)
    assert found["vtt"].text.startswith("WEBVTT\n\n00:")
    assert found["srt"].headers["content-type"].startswith("text/plain")


def test_the_sdk_reads_every_format(server: Server) -> None:
    file = ("speech.wav", wav(3.5))
    with server.openai() as client:
        create = client.audio.transcriptions.create
        plain = create(model="tiny", file=file)
        assert plain.text == text(server)
        verbose = create(
            model="tiny",
            file=file,
            response_format="verbose_json",
            timestamp_granularities=["word", "segment"],
            language="en",
        )
        assert verbose.language == "english"
        assert verbose.segments
        assert verbose.words
        assert verbose.words[0].start <= verbose.words[0].end
        srt: Any = create(model="tiny", file=file, response_format="srt")
        assert " --> " in srt
        with pytest.warns(
            DeprecationWarning, match="deprecated"
        ):  # OpenAI would like to end this route
            translated = client.audio.translations.create(model="tiny", file=file)
        assert translated.text
        pieces, done = [], None
        for event in create(model="tiny", file=file, stream=True):
            if event.type == "transcript.text.delta":
                pieces.append(event.delta)
            elif event.type == "transcript.text.done":
                done = event.text
        assert "".join(pieces) == done == plain.text


def test_a_stream_brings_segments_as_they_are_final(server: Server) -> None:
    found = events(send(server, response_format="verbose_json", stream="true"))
    whole = send(server, response_format="verbose_json").json()
    kinds = [event["type"] for event in found]
    assert kinds[-1] == "transcript.text.done"
    segments = [e for e in found if e["type"] == "transcript.text.segment"]
    assert [{k: v for k, v in e.items() if k != "type"} for e in segments] == whole["segments"]
    seconds = [e["seconds"] for e in found if e["type"] == "transcript.progress"]
    assert seconds == sorted(seconds)
    assert seconds[-1] == 3.5
    deltas = [e["delta"] for e in found if e["type"] == "transcript.text.delta"]
    assert "".join(deltas) == found[-1]["text"] == whole["text"]
    assert kinds.index("transcript.text.delta") < len(kinds) - 2 or len(deltas) == 1


def test_whisper_cpps_form_is_served(server: Server) -> None:
    more: dict[str, Any] = {"temperature_inc": "0.2", "split_on_word": "true", "audio_ctx": "0"}
    answer = send(server, "/inference", language="zh", response_format="json", **more)
    assert answer.json()["text"] == text(server, language="zh")
    found = send(server, "/inference", language="auto", response_format="verbose_json").json()
    assert found["segments"]
    translated = send(server, "/inference", translate="true", language="de").json()["text"]
    assert translated == text(server, "/v1/audio/translations", language="de")
    assert send(server, "/inference", response_format="srt").text.startswith("1\n00:")


@pytest.mark.parametrize(("given", "shown"), [("0", False), ("-1", True), ("64", True)])
def test_whisper_cpps_context_may_be_turned_off(given: str, shown: bool) -> None:
    assert InferenceFields.model_validate({"max_context": given}).condition is shown


def test_an_english_model_transcribes_and_does_no_more(server: Server) -> None:
    assert text(server, model="english", language="English")
    for path, language in (("/v1/audio/translations", ""), (PATH, "fr")):
        response = send(server, path, model="english", language=language)
        assert response.status_code == 400
        assert "English" in response.text or "does not know" in response.text


def test_words_make_cues_of_their_own(server: Server) -> None:
    granularity: dict[str, Any] = {"timestamp_granularities_list": "word"}
    only = send(server, response_format="verbose_json", **granularity).json()
    assert "segments" not in only
    shown = send(server, response_format="vtt", **granularity).text.split("\n")
    assert sum(" --> " in line for line in shown) == len(only["words"]) > 0


def test_any_container_and_rate_is_read(server: Server, tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    rng = np.random.default_rng(0)
    for name, rate, channels in (("a.flac", 44_100, 2), ("b.ogg", 48_000, 1), ("c.mp3", 22_050, 2)):
        soundfile.write(tmp_path / name, rng.normal(0, 0.1, (rate * 2, channels)), rate)
        answer = send(server, sound=(tmp_path / name).read_bytes(), temperature="0.1")
        assert answer.json()["usage"]["seconds"] in {2, 3}, name
    assert send(server, sound=wav(2, rate=1000)).status_code == 200


def test_silence_has_no_text(server: Server) -> None:
    still = wav(0.1)[:44] + bytes(16_000 * 2 * 20)
    answer = send(server, sound=still, response_format="verbose_json").json()
    assert (answer["text"], answer["segments"], answer["language"]) == ("", [], "english")


BAD = [
    ({"language": "klingon"}, "language"),
    ({"temperature": "1.5"}, "temperature"),
    ({"temperature": "nan"}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"response_format": "xml"}, "response_format"),
    ({"stream": "perhaps"}, "stream"),
    ({"include_list": "logprobs"}, "include"),
    ({"timestamp_granularities_list": "word"}, "timestamp_granularities"),
    (
        {"timestamp_granularities_list": "hour", "response_format": "verbose_json"},
        "timestamp_granularities.0",
    ),
    ({"model": ["tiny", "tiny"]}, "model"),
]


@pytest.mark.parametrize(("fields", "param"), BAD)
def test_bad_fields_are_named(one_server: Server, fields: dict[str, Any], param: str) -> None:
    response = send(one_server, **fields)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"] == param


@pytest.mark.parametrize(
    "sound",
    [
        b"",
        b"This is a text file.\n" * 100,
        wav(1)[:30],
        b"\xff\xfb\x90\x00" + b"not mp3" * 50,
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        b"PK\x03\x04" + bytes(100),
    ],
    ids=["empty", "text", "truncated", "damaged", "picture", "archive"],
)
@pytest.mark.parametrize("stream", ["true", "false"])
def test_what_is_no_sound_is_refused(server: Server, sound: bytes, stream: str) -> None:
    response = send(server, sound=sound, stream=stream)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"] == "file"
    plain = send(server, "/inference", sound=sound, stream=stream)
    assert plain.status_code == 400
    assert isinstance(plain.json()["error"], str)


def test_a_header_that_asks_for_gigabytes_is_refused(server: Server, tmp_path: Path) -> None:
    small = write_coded(tmp_path / "a.m4a", chirp(2, 16_000), 16_000, "aac").read_bytes()
    bomb = patched(tmp_path / "bomb.m4a", small, b"stsz", 1, 100_000_000).read_bytes()
    assert send(server, sound=small).status_code == 200
    with watched_memory() as grown:
        response = send(server, sound=bomb)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "file"
    assert grown() < 50_000_000


def test_what_is_no_number_is_silence(server: Server) -> None:
    samples = np.frombuffer(wav(3.5)[44:], "<i2").astype("<f4") / 32768
    broken, mended = samples.copy(), samples.copy()
    broken[1000:9000:100], broken[5], mended[1000:9000:100] = np.nan, np.nan, 0
    mended[5] = 0
    said = [text(server, sound=wav_of_floats(one), language="en") for one in (broken, mended)]
    assert said[0] == said[1] != ""


def test_what_the_client_calls_the_file_does_not_matter(server: Server) -> None:
    named = {"file": ("a.png", wav(3.5), "image/png")}
    answer = server.client.post(server.url + PATH, data={"model": "tiny"}, files=named)
    assert answer.json()["text"] == text(server)


@pytest.mark.slow
def test_four_hours_of_silence_take_little_time_and_memory(server: Server, tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    with soundfile.SoundFile(tmp_path / "a.flac", "w", 8000, 1, "PCM_16") as file:
        for _ in range(4 * 60):
            file.write(np.zeros(60 * 8000, np.int16))
    sound = (tmp_path / "a.flac").read_bytes()
    assert len(sound) < 1_000_000
    began = time.perf_counter()
    with watched_memory() as grown:
        answer = send(server, sound=sound, response_format="verbose_json").json()
    assert time.perf_counter() - began < 50
    assert (answer["text"], answer["duration"]) == ("", 4 * 3600)
    assert grown() < 100_000_000


@contextmanager
def watched_memory() -> Iterator[Callable[[], int]]:
    """How much more memory this process took at most, in bytes."""
    process = psutil.Process()
    before = process.memory_info().rss
    most, ended = before, threading.Event()

    def watch() -> None:
        nonlocal most
        while not ended.wait(0.01):
            most = max(most, process.memory_info().rss)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield lambda: most - before
    finally:
        ended.set()
        thread.join()


def wav_of_floats(samples: NDArray[np.floating[Any]]) -> bytes:
    body = samples.astype("<f4").tobytes()
    layout = struct.pack("<HHIIHH", 3, 1, 16_000, 64_000, 4, 32)
    chunks = b"fmt " + struct.pack("<I", len(layout)) + layout
    chunks += b"data" + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def test_other_bodies_are_refused(server: Server) -> None:
    assert server.post(PATH, {"file": "a.wav"}).status_code == 415
    post, url = server.client.post, server.url + PATH
    for files in ({"sound": ("a.wav", wav(1))}, [("file", ("a", wav(1)))] * 2):
        response = post(url, files=files)
        assert (response.status_code, response.json()["error"]["param"]) == (400, "file")
    named = post(url, data={"file": "a.wav"}, files={"other": ("a", b"b")})
    assert "should be a file" in named.json()["error"]["message"]
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    for body in (b"", b"--x\r\nnothing", b"--y\r\n\r\n--y--"):
        assert post(url, content=body, headers=headers).status_code == 400
    assert post(url, content=b"", headers={"Content-Type": "multipart/form-data"}).is_client_error


def test_many_at_once_are_answered_as_one(server: Server) -> None:
    sounds = [wav(4, seed) for seed in range(5)]
    alone = [send(server, sound=sound, language="en").json() for sound in sounds]
    with ThreadPoolExecutor(5) as pool:
        together = list(pool.map(lambda s: send(server, sound=s, language="en").json(), sounds))
    assert together == alone


@pytest.mark.parametrize("stream", ["true", "false"])
def test_a_client_that_leaves_is_forgotten(server: Server, stream: str) -> None:
    sound = wav(600)
    before = transcribed(server)
    form = httpx.Request(
        "POST", server.url + PATH, data={"stream": stream}, files={"file": ("a.wav", sound)}
    )
    body = form.read()
    head = f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
    head += f"Content-Type: {form.headers['content-type']}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(head.encode() + body)
        wait_until(lambda: transcribed(server) > before)
        assert metric(server, "mlxsrv_running_transcriptions") == 1
    wait_until(lambda: running(server) == 0)
    wait_until(lambda: metric(server, "mlxsrv_running_transcriptions") == 0)
    left = transcribed(server)
    assert left - before < 600
    assert metric(server, 'mlxsrv_memory_bytes{kind="cache"}') == 0
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(head.encode() + body[: len(body) // 2])
    assert transcribed(server) == left
    assert text(server, language="en")


def transcribed(server: Server) -> float:
    return metric(server, "mlxsrv_transcribed_seconds_total")


def metric(server: Server, name: str) -> float:
    line = next(x for x in server.get("/metrics").text.splitlines() if x.startswith(f"{name} "))
    return float(line.rpartition(" ")[2])


def running(server: Server) -> int:
    """Requests for `tiny` that have not ended."""
    answer = server.get("/v1/models/tiny").json()
    return int(answer["requests"])


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_without_a_model_it_says_so(tiny_folder: Path) -> None:
    with serving("torch", {"chat": ModelSettings(path=str(tiny_folder))}) as server:
        missing = send(server, model="")
        assert missing.status_code == 404
        assert missing.json()["error"]["message"] == "No audio model loaded"
        assert send(server, "/inference", model="").json() == {"error": "No audio model loaded"}
        assert send(server, sound=b"text").status_code == 400


@pytest.mark.parametrize("backend", ["mlx", "torch"])
def test_recordings_take_turns_where_memory_is_short(
    whisper_servers: Servers, tmp_path: Path, backend: str
) -> None:
    folder = tiny_whisper.build(tmp_path / "tiny", audio_context=MOMENTS)
    models = {"tiny": ModelSettings(path=str(folder))}
    with serving(backend, models) as server:
        whole = [send(server, sound=wav(9, seed), language="en").json() for seed in range(4)]
        fixed = sum(metric(server, f'mlxsrv_memory_bytes{{kind="{kind}"}}') for kind in HELD)
    tight = MemorySettings.model_validate({"budget_bytes": int(fixed) + 8_000_000})
    with serving(backend, models, memory=tight) as server, ThreadPoolExecutor(4) as pool:
        sounds = [wav(9, seed) for seed in range(4)]
        jobs = [pool.submit(send, server, sound=sound, language="en") for sound in sounds]
        most = 0.0
        while not all(job.done() for job in jobs):
            most = max(most, metric(server, 'mlxsrv_memory_bytes{kind="cache"}'))
        assert [job.result().json() for job in jobs] == whole
        assert 0 < most <= 8_000_000
    none = MemorySettings.model_validate({"budget_bytes": int(fixed)})
    with serving(
        backend, {"tiny": ModelSettings(path=str(folder), preload=False)}, memory=none
    ) as s:
        refused = send(s)
        assert refused.status_code == 400
        assert "tiny needs" in refused.json()["error"]["message"]


HELD = ("weights", "activations")


def test_too_large_a_file_is_refused(whisper_servers: Servers, tmp_path: Path) -> None:
    folder = tiny_whisper.build(tmp_path / "tiny", audio_context=MOMENTS)
    models = {"tiny": ModelSettings(path=str(folder))}
    with serving("torch", models, max_body_bytes=100_000) as server:
        assert send(server, sound=wav(10)).status_code == 413
        assert send(server, sound=wav(1)).status_code == 200
