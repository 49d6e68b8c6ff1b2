"""The speech examples of the first document, word for word but for port and paths."""

from __future__ import annotations

import wave
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from mlxsrv.media.audio_encode import wav_bytes
from tests import tiny_speech
from tests.e2e.process import Process, serve
from tests.e2e.test_seeds import at, shell

pytest.importorskip("espeakng_loader")

CURL_SPEECH = """curl -s http://localhost:8080/v1/audio/speech \\
-H "Content-Type: application/json" \\
-d '{"input": "Hello from Cake TTS"}' \\
-o speech.wav"""

CURL_PLAY = """curl -s http://localhost:8080/v1/audio/speech \\
-H "Content-Type: application/json" \\
-d '{"input": "Streaming audio", "response_format": "pcm"}' \\
| head -c 100000000 > played"""

CURL_PATH = """curl http://localhost:8080/v1/audio/speech \\
-H "Content-Type: application/json" \\
-d '{
"input": "Hello world, this is a test.",
"voice_path": "/path/to/voice_reference.wav",
"response_format": "wav"
}' -o output.wav"""

CURL_DATA = """VOICE_B64=$(base64 -w0 voice_reference.wav)
curl http://localhost:8080/v1/audio/speech \\
-H "Content-Type: application/json" \\
-d "{
\\"input\\": \\"Hello from a cloned voice.\\",
\\"voice_data\\": \\"$VOICE_B64\\"
}" -o output.wav"""


def seconds(file: Path) -> float:
    """Of a WAV file as the document describes it: 16-bit, mono."""
    with wave.open(str(file)) as sound:
        assert (sound.getnchannels(), sound.getsampwidth()) == (1, 2)
        samples = len(sound.readframes(sound.getnframes())) // 2
        return float(samples / sound.getframerate())


def test_the_lines_without_a_voice(demo_on_torch: Process, tmp_path: Path) -> None:
    shell(demo_on_torch, CURL_SPEECH, folder=tmp_path)
    assert 0.5 < seconds(tmp_path / "speech.wav") < 5
    shell(demo_on_torch, CURL_PLAY, folder=tmp_path)
    played = np.frombuffer((tmp_path / "played").read_bytes(), "<f4")
    assert 0.1 < np.abs(played).max() <= 1
    resp = httpx.post(
        at(demo_on_torch, "http://localhost:8080/v1/audio/speech"), json={"input": "Hello world"}
    )
    (tmp_path / "speech.wav").write_bytes(resp.content)
    assert seconds(tmp_path / "speech.wav") > 0.3


@pytest.fixture(scope="module")
def cloner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Process, Path]]:
    """The server, and the recording in its folder for voices."""
    home = tmp_path_factory.mktemp("cloner")
    voice = home / "voice_reference.wav"
    folder = tiny_speech.build_vibevoice(home / "VibeVoice-1.5B", layout="transformers")
    hiss = np.random.default_rng(0).normal(0, 0.1, 48_000).astype(np.float32)
    voice.write_bytes(wav_bytes(hiss, 24_000))
    words = ["--kind", "tts", "--voice-prompt", str(voice)]
    words += ["--voices-dir", str(home), "--backend", "torch"]
    with serve(home, str(folder), *words) as server:
        yield server, voice


@pytest.mark.slow
def test_the_lines_that_clone_a_voice(cloner: tuple[Process, Path], tmp_path: Path) -> None:
    server, voice = cloner
    line = CURL_PATH.replace("/path/to/voice_reference.wav", str(voice))
    shell(server, line, folder=tmp_path)
    assert seconds(tmp_path / "output.wav") == 20
    (tmp_path / "output.wav").unlink()
    (tmp_path / "voice_reference.wav").write_bytes(voice.read_bytes())
    shell(server, CURL_DATA, folder=tmp_path)
    assert seconds(tmp_path / "output.wav") == 20
